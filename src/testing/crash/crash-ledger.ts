import type { TrackedCommit } from "./crash-scenario.ts";

/** The commits and events that a check must find after a crash. */
export interface Known {
  readonly commits: readonly TrackedCommit[];
  /** The events that the last check returned. */
  readonly seen: readonly string[];
}

/** The commits of one run. Its lists are replaced, never changed. */
export class Ledger implements Known {
  commits: readonly TrackedCommit[];
  seen: readonly string[];
  readonly #prefix: string;
  #count = 0;

  /** `prefix` makes the ids of its commits unique. Pending commits of `before` stay pending. */
  constructor(prefix: string, before: Known = { commits: [], seen: [] }) {
    this.#prefix = prefix;
    this.commits = before.commits;
    this.seen = before.seen;
  }

  /** Records the events that a check returned. Throws if an event of the check before is missing or differs. */
  async see(check: Promise<readonly string[] | void>): Promise<void> {
    const found = await check;
    if (found === undefined) return;
    for (const [i, line] of this.seen.entries()) {
      if (found[i] !== line)
        throw new Error(`expected the event of an earlier check, ${line}; found ${found[i] ?? "none"}`);
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
