/** Work that answers for everything that happened before it began. Of calls that come while it runs, all share the next run. */
export class LatestRun {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** Resolves when a run that began after the call has ended. */
  run(): Promise<void> {
    if (this.#running === undefined && this.#next === undefined) return (this.#running = this.#run());
    // Never answered before an earlier run has ended.
    return (this.#next ??= (this.#running ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return (this.#running = this.#run());
      }));
  }

  async #run(): Promise<void> {
    try {
      await this.#work();
    } finally {
      this.#running = undefined;
    }
  }
}
