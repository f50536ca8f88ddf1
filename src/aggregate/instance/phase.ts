/**
 * The phases of an instance:
 *
 * - `open`: works through its mailbox.
 * - `deciding`: `handle` is running; commands that it sends to its own instance wait.
 * - `paused`: the event loop was kept busy for too long; the mailbox goes on in its next turn.
 * - `reading`: events are being read; the mailbox waits.
 * - `leased`: a `Lease` holds the instance; the mailbox waits.
 *
 * Every phase but `open` ends in `open`. Commits in flight are not a phase: the mailbox goes on meanwhile.
 */
export type Phase = "open" | "deciding" | "paused" | "reading" | "leased";

/** The current phase of an instance. An impossible transition throws: it would let two kinds of work run at once. */
export class PhaseMachine {
  #phase: Phase = "open";

  get isOpen(): boolean {
    return this.#phase === "open";
  }

  begin(phase: Exclude<Phase, "open">): void {
    if (this.#phase !== "open") throw new Error(`expected phase open before ${phase}, found ${this.#phase}`);
    this.#phase = phase;
  }

  end(phase: Exclude<Phase, "open">): void {
    if (this.#phase !== phase) throw new Error(`expected phase ${phase} at its end, found ${this.#phase}`);
    this.#phase = "open";
  }
}
