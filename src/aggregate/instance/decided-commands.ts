import type {
  CommitChain,
  CommitResult,
  EventDraft,
  EventStore,
  StreamAppend,
  StreamName,
} from "../../event-store/event-store.ts";
import { tracedCommit } from "../../event-store/traced-commit.ts";
import type { AppliedEvent } from "../aggregate.ts";
import { atPositions } from "./command-outcome.ts";
import type { CommittedState } from "./committed-state.ts";
import type { CommandJob } from "./mailbox.ts";

export type Failure = { readonly failed: unknown };
type Conflict = Extract<CommitResult, { readonly ok: false }>;
type Result = CommitResult | Failure;

/** A command whose events are in flight. */
interface Write {
  readonly kind: "write";
  readonly job: CommandJob;
  readonly events: readonly AppliedEvent<string, unknown>[];
  readonly state: unknown;
  result: Result | undefined;
}

/** A command without events: rejected, failed, or nothing to do. */
interface Verdict {
  readonly kind: "verdict";
  readonly job: CommandJob;
  readonly answer: () => void;
  /** Its outcome is remembered. */
  readonly isRemembered: boolean;
  result: Result | undefined;
}

/** Commands that were decided and will not take effect as they were. */
export interface Undone {
  readonly cause: Conflict | Failure;
  readonly commands: readonly { readonly job: CommandJob; readonly result: Result | undefined }[];
}

const NOTHING_TO_CHECK: CommitResult = { ok: true, position: 0 };

/**
 * The commands of one instance that are decided and not answered yet, in order. Each was decided on the state that includes
 * the ones before it; their commits are one chain, so that none counts without those before it.
 *
 * A verdict is as old as the state that it rests on. A store that has to wait for other processes' commits (no
 * `refreshNow`) is asked whether that state is the newest: by a commit without events in the same chain. So verdicts keep
 * their place in the order of commands, and share a round trip with their neighbours.
 */
export class DecidedCommands {
  readonly #stream: StreamName;
  readonly #store: EventStore;
  /** Called whenever a result has arrived. */
  readonly #onResult: () => void;
  readonly #commands: (Write | Verdict)[] = [];
  #chain: CommitChain = { broken: false };
  #inFlight = 0;
  #state: unknown;
  #version = 0;

  constructor(stream: StreamName, store: EventStore, onResult: () => void) {
    this.#stream = stream;
    this.#store = store;
    this.#onResult = onResult;
  }

  get isEmpty(): boolean {
    return this.#commands.length === 0;
  }

  /** State and version after all decided commands: what the next command is decided on. */
  get state(): unknown {
    return this.#state;
  }

  get version(): number {
    return this.#version;
  }

  /** Whether the events of a command are being written, or its outcome. */
  isWriting(job: CommandJob): boolean {
    return this.#commands.some((command) => writes(command) && command.job === job);
  }

  /** Continues from the committed state. Only with no decided commands. */
  continueFrom({ state, version }: { readonly state: unknown; readonly version: number }): void {
    if (!this.isEmpty) throw new Error(`expected no decided commands, found ${this.#commands.length}`);
    this.#state = state;
    this.#version = version;
  }

  /** `outcomes` compares the version of the remembered outcomes. */
  write(
    job: CommandJob,
    drafts: readonly EventDraft[],
    events: readonly AppliedEvent<string, unknown>[],
    state: unknown,
    outcomes?: StreamAppend,
  ): void {
    const command: Write = { kind: "write", job, events, state, result: undefined };
    const expectedVersion = this.#version;
    this.#state = state;
    this.#version += drafts.length;
    this.#commands.push(command);
    const append = { stream: this.#stream, expectedVersion, events: drafts };
    const appends = outcomes === undefined ? [append] : [append, outcomes];
    this.#awaitResult(command, tracedCommit(this.#store, { appends, chain: this.#chain }, job.trace));
  }

  /** `answer` is called once everything that the verdict rests on is committed. */
  addVerdict(job: CommandJob, answer: () => void): void {
    const isChecked = this.#store.refreshNow === undefined;
    const result = isChecked ? undefined : NOTHING_TO_CHECK;
    const command: Verdict = { kind: "verdict", job, answer, isRemembered: false, result };
    this.#commands.push(command);
    if (isChecked) this.#awaitResult(command, this.#store.commit({ appends: [this.#check], chain: this.#chain }));
  }

  /** The same for a verdict that `outcome` remembers. */
  addRememberedVerdict(job: CommandJob, answer: () => void, outcome: StreamAppend): void {
    const command: Verdict = { kind: "verdict", job, answer, isRemembered: true, result: undefined };
    this.#commands.push(command);
    const commit = { appends: [this.#check, outcome], chain: this.#chain };
    this.#awaitResult(command, tracedCommit(this.#store, commit, job.trace));
  }

  get #check(): StreamAppend {
    return { stream: this.#stream, expectedVersion: this.#version, events: [] };
  }

  #awaitResult(command: Write | Verdict, committed: Promise<CommitResult>): void {
    this.#inFlight++;
    const receive = (result: Result): void => {
      this.#inFlight--;
      command.result = result;
      this.#onResult();
    };
    committed.then(receive, (failed: unknown) => receive({ failed }));
  }

  /**
   * Answers, in order, the commands whose results are known, and moves the committed state on. Returns the rest when one of
   * them was not written: they are no longer decided.
   */
  answer(committed: CommittedState): Undone | undefined {
    const commands = this.#commands;
    for (let first = commands[0]; first !== undefined; first = commands[0]) {
      const { result } = first;
      if (result === undefined) return undefined;
      // The rest fails as well, each by its own commit: wait until all of them are known.
      if ("failed" in result || !result.ok) return this.#inFlight === 0 ? this.#undo(result) : undefined;
      commands.shift();
      if (first.kind === "verdict") {
        if (first.isRemembered) committed.advanceOutcomes(1, result.position);
        first.answer();
        continue;
      }
      const { job, events, state } = first;
      const { position } = result;
      const version = committed.version + events.length;
      committed.advance(state, version, position);
      committed.recordEventIds(events);
      job.resolve({ events: atPositions(events, position), state, version, position });
    }
    return undefined;
  }

  #undo(cause: Conflict | Failure): Undone {
    for (const command of this.#commands) {
      if (!writes(command) || command.result === undefined || "failed" in command.result) continue;
      // To decide it again would write its events twice.
      if (command.result.ok) command.result = { failed: brokenChain(this.#stream) };
    }
    this.#chain = { broken: false };
    return { cause, commands: this.#commands.splice(0) };
  }
}

function writes(command: Write | Verdict): boolean {
  return command.kind === "write" || command.isRemembered;
}

function brokenChain({ type, id }: StreamName): Error {
  return new Error(
    `expected the store to write no commit of a chain after one that was not written; it wrote one for ${type} ${JSON.stringify(id)}`,
  );
}
