import type { CutKind } from "../../cut.ts";
import type { Commit, CommitResult, EventDraft, StreamName } from "../../event-store/event-store.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { metaText } from "../lines/event-line.ts";

/** An event with the JSON of its metadata, which the caller may change from now on. */
export interface QueuedEvent {
  readonly draft: EventDraft;
  readonly meta: string | undefined;
}

/** The part of a queued commit that goes to one stream. */
export interface QueuedAppend {
  readonly stream: StreamName;
  readonly key: StreamKey;
  readonly expectedVersion: number;
  /** Without events, the append only checks the version. */
  readonly events: readonly QueuedEvent[];
  readonly cut: CutKind | undefined;
}

/** A commit that waits to be written. */
export interface QueuedCommit {
  readonly appends: readonly QueuedAppend[];
  readonly consumer: Commit["consumer"];
  readonly chain: Commit["chain"];
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
  /** When it first met a stream that the Rust crate holds, in ms of the monotonic clock. */
  lockedSince?: number;
}

/** The commit as the queue takes it. `keyOf` may throw; then nothing is queued. */
export function queuedCommit(
  commit: Commit,
  keyOf: (stream: StreamName) => StreamKey,
  resolve: QueuedCommit["resolve"],
  reject: QueuedCommit["reject"],
): QueuedCommit {
  const appends = commit.appends.map(({ stream, expectedVersion, events, cut }) => ({
    stream,
    key: keyOf(stream),
    expectedVersion,
    events: events.map((draft) => ({ draft, meta: metaText(draft) })),
    cut,
  }));
  return { appends, consumer: commit.consumer, chain: commit.chain, resolve, reject };
}

/** Fails a commit, and with it all that were decided on top of it. */
export function fail({ chain, reject }: QueuedCommit, error: Error): void {
  if (chain !== undefined) chain.broken = true;
  reject(error);
}

/** Answers a commit that met another version, and with it all that were decided on top of it. */
export function answerConflict({ chain, resolve }: QueuedCommit, conflict: CommitResult): void {
  if (chain !== undefined) chain.broken = true;
  resolve(conflict);
}
