import type { TrackedCommit } from "./crash-scenario.ts";

/** What is known when the power is cut. */
export interface Known {
  readonly commits: readonly TrackedCommit[];
  /** What a check has seen. */
  readonly seen: readonly string[];
}

/** The commits of one run. The lists are replaced, never changed. */
export class Ledger implements Known {
  commits: readonly TrackedCommit[];
  seen: readonly string[];
  readonly #prefix: string;
  #count = 0;

  /** `prefix` makes the ids of its commits unique; what was under way `before` stays open. */
  constructor(prefix: string, before: Known = { commits: [], seen: [] }) {
    this.#prefix = prefix;
    this.commits = before.commits;
    this.seen = before.seen;
  }

  /** Takes note of what a check has found; throws when something is gone that was there before. */
  async see(check: Promise<readonly string[] | void>): Promise<void> {
    const found = await check;
    if (found === undefined) return;
    for (const [i, line] of this.seen.entries()) {
      if (found[i] !== line) throw new Error(`${line} was there before; now it is ${found[i] ?? "gone"}`);
    }
    this.seen = found;
  }

  async track<T>(action: (context: { readonly correlationId: string }) => Promise<T>, events: number): Promise<T> {
    const id = `${this.#prefix}${++this.#count}`;
    const index = this.commits.length;
    this.commits = [...this.commits, { id, events, outcome: "pending" }];
    try {
      const result = await action({ correlationId: id });
      this.#settle(index, { id, events, outcome: "acknowledged", result });
      return result;
    } catch (error) {
      this.#settle(index, { id, events, outcome: "failed" });
      throw error;
    }
  }

  #settle(index: number, commit: TrackedCommit): void {
    this.commits = this.commits.map((other, i) => (i === index ? commit : other));
  }
}
