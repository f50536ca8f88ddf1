import type {
  Commit,
  CommitChain,
  CommitResult,
  EventDraft,
  EventStore,
  StreamAppend,
  StreamName,
} from "../event-store/event-store.ts";

/** So many commits, and so many bytes of payloads, are in flight at the same time. */
const COMMITS = 1000;
const BYTES = 4 << 20;
/** Events of one commit. */
const EVENTS = 500;

interface Pending {
  readonly commit: Commit;
  readonly bytes: number;
  /** Throws if the commit did not come out as it should. */
  readonly check: (result: CommitResult) => void;
}

interface Run {
  readonly stream: StreamName;
  readonly expectedVersion: number;
  readonly events: EventDraft[];
  bytes: number;
  readonly check: (result: CommitResult, events: number) => void;
}

/**
 * Commits in order, many at a time. They rest on each other: after one that fails, the store writes none. Neighbours of one stream are
 * one commit, as more would change the order.
 */
export class CommitWindow {
  readonly #store: EventStore;
  readonly #changed: (stream: StreamName) => void;
  #pending: Promise<void>[] = [];
  #bytes = 0;
  #run: Run | undefined;
  #chain: CommitChain = { broken: false };

  constructor(store: EventStore, changed: (stream: StreamName) => void) {
    this.#store = store;
    this.#changed = changed;
  }

  async addEvent(stream: StreamName, expectedVersion: number, event: EventDraft, check: Run["check"]): Promise<void> {
    const bytes = event.data.length + 200;
    const run = this.#run;
    if (
      run !== undefined &&
      run.stream.type === stream.type &&
      run.stream.id === stream.id &&
      run.expectedVersion + run.events.length === expectedVersion &&
      run.events.length < EVENTS &&
      run.bytes + bytes < BYTES
    ) {
      run.events.push(event);
      run.bytes += bytes;
      return;
    }
    await this.#commitRun();
    this.#run = { stream, expectedVersion, events: [event], bytes, check };
  }

  /** Adds an event that cuts its stream. */
  async addCut(append: StreamAppend, check: Run["check"]): Promise<void> {
    await this.add({
      commit: { appends: [append] },
      bytes: 200,
      check: (result) => {
        check(result, append.events.length);
        this.#changed(append.stream);
      },
    });
  }

  async add(pending: Pending): Promise<void> {
    await this.#commitRun();
    await this.#commit(pending);
  }

  /** Resolves when all is committed. Throws the first failure. */
  async flush(): Promise<void> {
    await this.#commitRun();
    await this.#wait();
  }

  /** Resolves when nothing is in flight, whatever comes out. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#pending);
  }

  async #commitRun(): Promise<void> {
    const run = this.#run;
    if (run === undefined) return;
    this.#run = undefined;
    const { stream, expectedVersion, events, bytes, check } = run;
    await this.#commit({
      commit: { appends: [{ stream, expectedVersion, events }] },
      bytes,
      check: (result) => {
        check(result, events.length);
        this.#changed(stream);
      },
    });
  }

  async #commit({ commit, bytes, check }: Pending): Promise<void> {
    const committed = this.#store.commit({ ...commit, chain: this.#chain }).then(check);
    // It is awaited later.
    committed.catch(() => {});
    this.#pending.push(committed);
    this.#bytes += bytes;
    if (this.#pending.length >= COMMITS || this.#bytes >= BYTES) await this.#wait();
  }

  async #wait(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    this.#bytes = 0;
    const failed = (await Promise.allSettled(pending)).find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  }
}
