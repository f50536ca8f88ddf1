import type { EventfoldError } from "../../errors.ts";
import type { Commit, CommitResult, EventStore, StoreProgress, StreamName } from "../../event-store/event-store.ts";
import type { ReplicaDirectory } from "../../file-store/open-replica.ts";
import { isError } from "../../realm.ts";
import { monotonicNow, startTimer } from "../../real-timers.ts";
import { type FullName, fullNameOf } from "../../stream-names.ts";
import type { Known } from "../commit/batch-plan.ts";
import { replicaDiverged } from "../failures.ts";
import { type BatchMessage, MalformedBatch, parseBatch } from "../message/batch-message.ts";
import type { PreparedCommit } from "../message/prepared-commit.ts";
import type { Place } from "./place.ts";

/** Limits of the messages that are applied together. */
const MOST_MESSAGES = 64;
const MOST_BYTES = 4 << 20;
/** Above so many waiting bytes, the server is asked for no more. */
const BACKLOG_BYTES = 16 << 20;
/** How often the place is kept, in ms. After a crash, messages after it are compared and skipped. */
const KEEP_PLACE_MS = 2000;
/** Versions of so many streams are remembered. */
const MOST_VERSIONS = 100_000;
/** So many messages are remembered by their batches. */
const MOST_SLOTS = 1024;
/** Between two tries to apply what the directory could not take, in ms: the first pause and the longest. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/** A batch that the replica has just taken. */
export interface AppliedBatch {
  readonly batch: string;
  /** The streams that it has events of. */
  readonly streams: readonly StreamName[];
}

/**
 * The copy of the stream that answers all reads. It takes the messages in their order, each once, and writes them to a store in a
 * directory. Each message names the batch before it and the position before its first event, so a message that does not continue the
 * replica is noticed: from then on everything fails with `REPLICA_DIVERGED`.
 */
export class Replica {
  readonly #directory: ReplicaDirectory;
  readonly #local: EventStore;
  /** Called when readers see more batches, and when the replica stops. */
  onApplied: (batches: readonly AppliedBatch[]) => void = () => {};
  /** Sequence of the last message that was applied. */
  #sequence: number;
  #batch: string | null;
  #position: number;
  readonly #versions = new Map<FullName, number>();
  readonly #sequences: Map<string, number>;
  readonly #slots = new Map<number, string>();
  /** The messages after the applied ones, without a gap. */
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #running: Promise<void> | undefined;
  /** Ends when the last exclusive use does. */
  #turns: Promise<unknown> = Promise.resolve();
  /** What the store may have beyond the place: commits that it has are skipped. */
  #surplus: StoreProgress | undefined;
  #failure: EventfoldError | undefined;
  #trouble: Error | undefined;
  readonly #waiting = new Set<() => void>();
  #isClosed = false;
  #keptAt = monotonicNow();
  #isKeptClosed: boolean;

  private constructor(directory: ReplicaDirectory, place: Place, surplus: StoreProgress | undefined) {
    this.#directory = directory;
    this.#local = directory.store;
    this.#sequence = place.sequence;
    this.#batch = place.batch;
    this.#position = place.position;
    this.#sequences = new Map(Object.entries(place.consumers));
    this.#surplus = surplus;
    this.#isKeptClosed = place.closed;
  }

  /** Finds out what the store in a directory has. `place` is what the directory says; nothing for one without a place. */
  static async open(directory: ReplicaDirectory, place: Place | undefined): Promise<Replica> {
    const beginning = { sequence: 0, batch: null, position: 0, consumers: {}, closed: false };
    const kept = place ?? beginning;
    const { store } = directory;
    if (kept.closed && (await store.head()) === kept.position) return new Replica(directory, kept, undefined);
    const surplus = await store.progress();
    const isShort =
      surplus.head < kept.position ||
      Object.entries(kept.consumers).some(([name, sequence]) => (surplus.consumers.get(name) ?? 0) < sequence);
    // After a power cut the store may lack what the place counts: it is compared from the beginning.
    return new Replica(directory, isShort ? beginning : { ...kept, closed: false }, surplus);
  }

  get path(): string {
    return this.#directory.path;
  }

  /** Sequence of the last message that readers see. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Id of that message's batch. */
  get batch(): string | null {
    return this.#batch;
  }

  /** Position of the last event that readers see. */
  get position(): number {
    return this.#position;
  }

  /** The sequence that `take` can take next. */
  get next(): number {
    return this.#sequence + this.#pending.length + 1;
  }

  /** Whether it has as much to apply as it can keep. */
  get isBusy(): boolean {
    return this.#pendingBytes > BACKLOG_BYTES;
  }

  /** The batch of a message that was applied not long ago. */
  batchAt(sequence: number): string | undefined {
    return this.#slots.get(sequence);
  }

  /** Whether it has stopped for good. */
  get isStopped(): boolean {
    return this.#failure !== undefined;
  }

  /** Throws if the replica has stopped. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Takes a message. False if there is a gap before it: then it has to come again. */
  take(sequence: number, data: Uint8Array): boolean {
    if (this.#isClosed || this.#failure !== undefined || sequence < this.next) return true;
    if (sequence > this.next) return false;
    this.#pending.push(data);
    this.#pendingBytes += data.length;
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
    return true;
  }

  /** Whether the message is applied within `ms`. Throws if the replica has stopped. */
  async reached(sequence: number, ms: number): Promise<boolean> {
    const deadline = monotonicNow() + ms;
    for (;;) {
      this.check();
      if (this.#sequence >= sequence) return true;
      const left = deadline - monotonicNow();
      if (left <= 0 || this.#isClosed) return false;
      await this.#change(left);
    }
  }

  /** Why the directory does not take what has come, if it does not. */
  get trouble(): Error | undefined {
    return this.#trouble;
  }

  /** Does something while nothing is applied. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turns.then(work);
    this.#turns = done.catch(() => {});
    return done;
  }

  /** Where the streams and consumers of commits are. Only exclusively. */
  async known(commits: readonly PreparedCommit[]): Promise<Known> {
    const unknown = new Map<FullName, { readonly stream: StreamName; readonly expectedVersion: number }>();
    for (const { appends } of commits)
      for (const append of appends) if (!this.#versions.has(append.key)) unknown.set(append.key, append);
    await Promise.all(
      [...unknown].map(async ([key, { stream, expectedVersion }]) => {
        const result = await this.#local.commit({ appends: [{ stream, expectedVersion, events: [] }] });
        this.#versions.set(key, result.ok || !("actualVersion" in result) ? expectedVersion : result.actualVersion);
      }),
    );
    return { versions: this.#versions, sequences: this.#sequences };
  }

  /** Throws unless the store has exactly what the stream has up to the last message that was applied. */
  async checkWhole(): Promise<void> {
    const head = await this.#local.head();
    if (head !== this.#position) throw this.stop(`it has ${head} events, and the stream ${this.#position}`);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    await this.#running;
    await this.#turns;
    const isWhole = this.#failure === undefined && this.#surplus === undefined && this.#trouble === undefined;
    // Not before the store has flushed what the place counts.
    await this.#directory.close(isWhole ? this.#placeText(true) : undefined);
  }

  async #run(): Promise<void> {
    for (let wait = FIRST_PAUSE_MS; this.#pending.length > 0 && this.#failure === undefined;) {
      // Closing waits for what has come, but not for a directory that does not take it.
      if (this.#isClosed && this.#trouble !== undefined) return;
      const applied = await this.exclusively(() => this.#apply());
      if (applied) wait = FIRST_PAUSE_MS;
      else {
        await this.#change(wait);
        wait = Math.min(2 * wait, LONGEST_PAUSE_MS);
      }
    }
  }

  /** Applies the next messages. False if the directory does not take them, and they have to be tried again. */
  async #apply(): Promise<boolean> {
    try {
      // Durable: if the earlier place came back after a power cut, it would hide what is applied next.
      if (this.#isKeptClosed) await this.#keepPlace(true);
      const messages = this.#parse();
      const failed = await this.#write(messages);
      if (failed !== undefined) {
        this.#trouble = failed;
        this.#surplus = await this.#local.progress();
        return false;
      }
      this.#trouble = undefined;
      this.#applied(messages);
      if (monotonicNow() - this.#keptAt > KEEP_PLACE_MS) await this.#keepPlace(false);
      return true;
    } catch (error) {
      if (error instanceof Divergence) this.stop(error.message);
      else this.#trouble = isError(error) ? error : new Error(String(error));
      return false;
    }
  }

  #parse(): BatchMessage[] {
    const messages: BatchMessage[] = [];
    let [batch, position, bytes] = [this.#batch, this.#position, 0];
    for (const data of this.#pending.slice(0, MOST_MESSAGES)) {
      if (messages.length > 0 && (bytes += data.length) > MOST_BYTES) break;
      const sequence = this.#sequence + messages.length + 1;
      const message = parseMessage(data, sequence);
      if (message.after !== batch)
        throw new Divergence(
          `message ${sequence} follows the batch ${message.after}, and the last one here is ${batch}`,
        );
      if (message.position !== position)
        throw new Divergence(
          `message ${sequence} follows position ${message.position}, and the last one here is ${position}`,
        );
      messages.push(message);
      ({ batch } = message);
      position += message.contents.reduce((sum, commit) => sum + eventsOf(commit), 0);
    }
    return messages;
  }

  /** Writes the commits that the store does not have. Returns why it could not. */
  async #write(messages: readonly BatchMessage[]): Promise<Error | undefined> {
    // Once one commit fails, none after it may be written: it would have another position.
    const chain = { broken: false };
    const writing: { readonly position: number; readonly result: Promise<CommitResult> }[] = [];
    for (const { position: before, contents } of messages) {
      let position = before;
      for (const commit of contents) {
        position += eventsOf(commit);
        if (!this.#has(commit, position)) writing.push({ position, result: this.#local.commit({ ...commit, chain }) });
      }
    }
    const results = await Promise.allSettled(writing.map(({ result }) => result));
    for (const [i, result] of results.entries()) {
      if (result.status === "rejected")
        return isError(result.reason) ? result.reason : new Error(String(result.reason));
      const { value } = result;
      if (!value.ok) throw new Divergence(`a commit of the stream does not fit: ${JSON.stringify(value)}`);
      if (value.position !== writing[i]?.position)
        throw new Divergence(`an event of position ${writing[i]?.position} came to position ${value.position}`);
    }
    return undefined;
  }

  /** Whether the store has a commit already. `position` is that of its last event. */
  #has(commit: Commit, position: number): boolean {
    if (this.#surplus === undefined) return false;
    const { head, consumers } = this.#surplus;
    const events = eventsOf(commit);
    if (events > 0 && position > head && position - events < head)
      throw new Divergence(`it has ${head} events, which is in the middle of a commit`);
    const { consumer } = commit;
    const has =
      events > 0
        ? position <= head
        : consumer !== undefined && (consumers.get(consumer.name) ?? 0) > consumer.expectedSequence;
    // The store's log is a beginning of the stream, so it has none after the first that it lacks.
    if (!has) this.#surplus = undefined;
    return has;
  }

  #applied(messages: readonly BatchMessage[]): void {
    if (this.#versions.size > MOST_VERSIONS) this.#versions.clear();
    const batches = messages.map(({ batch, contents }): AppliedBatch => {
      this.#slots.set(++this.#sequence, batch);
      this.#slots.delete(this.#sequence - MOST_SLOTS);
      this.#batch = batch;
      const streams = new Map<FullName, StreamName>();
      for (const { appends, consumer } of contents) {
        for (const { stream, expectedVersion, events } of appends) {
          if (events.length === 0) continue;
          streams.set(fullNameOf(stream), stream);
          this.#versions.set(fullNameOf(stream), expectedVersion + events.length);
          this.#position += events.length;
        }
        if (consumer !== undefined) this.#sequences.set(consumer.name, consumer.expectedSequence + 1);
      }
      return { batch, streams: [...streams.values()] };
    });
    for (const data of this.#pending.splice(0, messages.length)) this.#pendingBytes -= data.length;
    this.onApplied(batches);
    this.#wake();
  }

  async #keepPlace(durable: boolean): Promise<void> {
    this.#keptAt = monotonicNow();
    await this.#directory.keepPlace(this.#placeText(false), durable);
    this.#isKeptClosed = false;
  }

  #placeText(closed: boolean): string {
    const place: Place = {
      ...{ sequence: this.#sequence, batch: this.#batch, position: this.#position },
      ...{ consumers: Object.fromEntries(this.#sequences), closed },
    };
    return `${JSON.stringify(place)}\n`;
  }

  /** Stops for good. Returns the error with which everything fails from now on. */
  stop(problem: string): EventfoldError {
    this.#failure ??= replicaDiverged(this.path, problem);
    // Waiting readers meet the failure.
    this.onApplied([]);
    this.#wake();
    return this.#failure;
  }

  /** Waits until something changes, for at most `ms`. */
  async #change(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        cancel();
        this.#waiting.delete(done);
        resolve();
      };
      const cancel = startTimer(done, ms, "foreground");
      this.#waiting.add(done);
    });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** A message does not continue what the replica has. */
class Divergence extends Error {}

function parseMessage(data: Uint8Array, sequence: number): BatchMessage {
  try {
    return parseBatch(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString());
  } catch (error) {
    if (!(error instanceof MalformedBatch)) throw error;
    throw new Divergence(`message ${sequence} is no batch of this version of the library: ${error.message}`);
  }
}

function eventsOf({ appends }: Commit): number {
  return appends.reduce((sum, { events }) => sum + events.length, 0);
}
