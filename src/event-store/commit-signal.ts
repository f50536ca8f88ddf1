import { startTimer } from "../real-timers.ts";
import type { EventStore } from "./event-store.ts";

/** Wakes a reader when there may be new commits, of this process or of another. */
export class CommitSignal {
  readonly #store: EventStore;
  readonly #ended: AbortSignal | undefined;
  readonly #unwatch: () => void;
  readonly #onEnd = (): void => this.#wake();
  #isRaised = false;
  #wake: () => void = () => {};
  /** Milliseconds that were waited since the store was last asked for commits of other processes. */
  #sincePoll = 0;

  /** `ended` wakes the reader too. */
  constructor(store: EventStore, ended?: AbortSignal) {
    this.#store = store;
    this.#ended = ended;
    this.#unwatch = store.watch(() => {
      this.#isRaised = true;
      this.#wake();
    });
    ended?.addEventListener("abort", this.#onEnd);
  }

  /** Forgets the commits so far. Call it before reading, so that none is missed between reading and waiting. */
  reset(): void {
    this.#isRaised = false;
  }

  /**
   * Waits until something was committed since `reset`, the end has come, or so many milliseconds have passed. Asks the store
   * as often as it wants to be asked. Resolves with whether something was committed. The timer keeps the program
   * alive on purpose: its reader is waiting for events.
   */
  async wait(atMost: number): Promise<boolean> {
    if (this.#isDone) return this.#isRaised;
    const { pollInterval = Infinity } = this.#store;
    const pause = Math.min(atMost, pollInterval - this.#sincePoll);
    await new Promise<void>((resolve) => {
      const cancel = startTimer(resolve, pause, "foreground");
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = () => {};
    if (this.#isDone) return this.#isRaised;
    this.#sincePoll += pause;
    if (this.#sincePoll >= pollInterval) {
      this.#sincePoll = 0;
      await this.#store.refresh();
    }
    return this.#isRaised;
  }

  get #isDone(): boolean {
    return this.#isRaised || this.#ended?.aborted === true;
  }

  close(): void {
    this.#unwatch();
    this.#ended?.removeEventListener("abort", this.#onEnd);
  }
}
