import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import type { Undelivered } from "./dead-letter.ts";
import type { Cause } from "./reaction.ts";

/** A dead letter of a manager with order. */
interface Placed {
  readonly key: string;
  readonly cause?: Cause;
  /** Number of the note with which it came first. Letters of one instance are sent in this order. */
  readonly place: number;
  /** It has not failed by itself: it waits for the letters before it. */
  readonly waits: boolean;
}

/**
 * The dead letters of a process manager that keeps the order of each instance: while the effect of one event is a dead letter, the
 * effects of later events of the same instance wait for it, as dead letters too. So the log has them, and no restart loses them.
 */
export class ManagerLetters {
  readonly #events: EventStore;
  readonly #manager: string;
  #known: { sequence: number; letters: Placed[] } | undefined;

  constructor(events: EventStore, manager: string) {
    this.#events = events;
    this.#manager = manager;
  }

  /** The letter that an effect of the same instance has to wait for. `sequence` is that of the manager's last note. */
  async before(cause: Cause | undefined, sequence: number): Promise<string | undefined> {
    if (cause === undefined) return undefined;
    return (await this.#ofInstance(cause, sequence))[0]?.key;
  }

  /** Throws `INVALID_ARGUMENT` for a letter that waits for another one. */
  async checkFirst(key: string, sequence: number): Promise<void> {
    const letter = (await this.#open(sequence)).find((each) => each.key === key);
    const first = await this.before(letter?.cause, sequence);
    if (first === undefined || first === key) return;
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `the dead letter ${JSON.stringify(key)} waits for ${JSON.stringify(first)} of the same instance; replay or drop that one first`,
    );
  }

  /** The next letter that only waits and has none before it any more, with its place. */
  async next(sequence: number): Promise<{ readonly key: string; readonly place: number } | undefined> {
    const blocked = new Set<string>();
    for (const { key, cause, place, waits } of await this.#open(sequence)) {
      const instance = `${cause?.aggregate}/${cause?.id}`;
      if (waits && !blocked.has(instance)) return { key, place };
      blocked.add(instance);
    }
    return undefined;
  }

  /** The manager has written a note that settles a letter, or makes a command one; or neither. */
  noted(sequence: number, settled?: string, added?: Undelivered): void {
    const known = this.#known;
    if (known?.sequence !== sequence - 1) return;
    known.sequence = sequence;
    const key = added?.identity ?? settled;
    if (key !== undefined) known.letters = known.letters.filter((letter) => letter.key !== key);
    if (added === undefined) return;
    const { identity, cause, place = 0, waits = false } = added;
    known.letters.push({ key: identity, ...(cause === undefined ? {} : { cause }), place, waits });
    known.letters.sort((a, b) => a.place - b.place);
  }

  async #ofInstance({ aggregate, id }: Cause, sequence: number): Promise<readonly Placed[]> {
    return (await this.#open(sequence)).filter(({ cause }) => cause?.aggregate === aggregate && cause.id === id);
  }

  async #open(sequence: number): Promise<readonly Placed[]> {
    if (this.#known?.sequence !== sequence) {
      const letters = (await this.#events.deadLetters(this.#manager)).map(placedOf);
      this.#known = { sequence, letters: letters.sort((a, b) => a.place - b.place) };
    }
    return this.#known.letters;
  }
}

/** A letter without a place is older than the order. */
function placedOf({ key, letter }: StoredDeadLetter): Placed {
  const { cause, place, waits } = letter as { cause?: Cause; place?: number; waits?: true };
  return { key, ...(cause === undefined ? {} : { cause }), place: place ?? 0, waits: waits === true };
}
