import type { StoredEvent } from "../event-store/event-store.ts";
import { fingerprint, textOf } from "../fingerprint.ts";
import { isJsonValue } from "../json.ts";

/** The first events of a kind are all taken, then the 20th, the 200th and so on. */
const FIRST = 2;
const FACTOR = 10;
/** Longest JSON text of a sample's event, and of the state before it, in UTF-16 units. */
const LONGEST = 2000;
/** Longest JSON text of all samples but the first one of each kind, in UTF-16 units. */
const LONGEST_LIST = 64_000;

/**
 * How one event was folded, as plain JSON: the event, the state before it (left out if it is the initial one, or too large to keep),
 * and a digest of the state after it. Code that is still the same makes the same state of it.
 */
export interface FoldSample {
  /** JSON text of the event. */
  readonly event: string;
  /** JSON text of the state. */
  readonly before?: string;
  readonly after: string;
}

export interface FoldDifference {
  readonly event: StoredEvent;
  /** Whether folding the event twice makes the same state twice. If not, the code is not deterministic. */
  readonly isRepeatable: boolean;
}

/** Counts the events of a kind. The one with the number `next` is to be sampled. */
export interface SampleCounter {
  count: number;
  next: number;
}

/** The first half of a sample, made before an event is folded. */
export interface BegunSample {
  readonly event: string;
  readonly before?: string;
}

/** Samples of how a definition folds events, some of each kind of event. */
export class FoldSamples {
  readonly #samples: FoldSample[] = [];
  readonly #counters = new Map<string, SampleCounter>();
  /** The same counters by something that is found more quickly than a kind's name. */
  readonly #byHandler = new Map<object, SampleCounter>();
  #length = 0;

  /** With samples of an earlier process. */
  constructor(samples: readonly FoldSample[] = [], nameOf: (event: StoredEvent) => string = kindOf) {
    for (const sample of samples) {
      this.#samples.push(sample);
      this.#length += lengthOf(sample);
      this.counter(nameOf(JSON.parse(sample.event) as StoredEvent)).count++;
    }
    for (const counter of this.#counters.values()) counter.next = nextAfter(counter.count);
  }

  get all(): readonly FoldSample[] {
    return this.#samples;
  }

  counter(kind: string): SampleCounter {
    let counter = this.#counters.get(kind);
    if (counter === undefined) this.#counters.set(kind, (counter = { count: 0, next: 1 }));
    return counter;
  }

  /** The counter of an event's kind. `handler` belongs to this kind alone. */
  counterOf(handler: object, event: StoredEvent): SampleCounter {
    let counter = this.#byHandler.get(handler);
    if (counter === undefined) this.#byHandler.set(handler, (counter = this.counter(kindOf(event))));
    return counter;
  }

  /** Begins a sample of an event that `counter` says is due. Call it before the event is folded. */
  begin(counter: SampleCounter, state: unknown, event: StoredEvent): BegunSample | undefined {
    const isFirst = counter.count === 1;
    counter.next = nextAfter(counter.count);
    if (!isFirst && this.#length >= LONGEST_LIST) return undefined;
    const text = textOfEvent(event);
    if (text.length > LONGEST) return undefined;
    const before = shortText(state);
    return before === undefined ? { event: text } : { event: text, before };
  }

  /** Completes a sample with the state after its event. Folds a sample without a state on the initial one. */
  complete(begun: BegunSample, state: unknown, foldOnInitial: (event: StoredEvent) => unknown): void {
    const fold = begun.before === undefined ? () => foldOnInitial(JSON.parse(begun.event) as StoredEvent) : () => state;
    const sample = { ...begun, after: digestOf(fold) };
    this.#samples.push(sample);
    this.#length += lengthOf(sample);
  }
}

/** The first sample that `fold` makes another state of. */
export function differing(
  samples: readonly FoldSample[],
  fold: (state: { readonly state: unknown } | undefined, event: StoredEvent) => unknown,
): FoldDifference | undefined {
  const folded = ({ event, before }: FoldSample): string =>
    digestOf(() =>
      fold(
        before === undefined ? undefined : { state: JSON.parse(before) as unknown },
        JSON.parse(event) as StoredEvent,
      ),
    );
  const found = samples.find((sample) => folded(sample) !== sample.after);
  if (found === undefined) return undefined;
  return { event: JSON.parse(found.event) as StoredEvent, isRepeatable: folded(found) === folded(found) };
}

function kindOf({ stream, type }: StoredEvent): string {
  return `${stream.type}/${type}`;
}

/** Of what `fold` returns; of the name of an error, if it throws one. */
function digestOf(fold: () => unknown): string {
  let text: string;
  try {
    const state = fold();
    // What JSON changes looks in it like something else: a date like a text, NaN like null.
    text = isJsonValue(state) ? textOf(state) : `beyond JSON: ${textOf(state)}`;
  } catch {
    text = "thrown";
  }
  return fingerprint(text);
}

function nextAfter(count: number): number {
  return count < FIRST ? count + 1 : count * FACTOR;
}

/** JSON text of a value that JSON can hold, unless it is long. */
function shortText(value: unknown): string | undefined {
  if (!isShort(value, { left: LONGEST }) || !isJsonValue(value)) return undefined;
  const text = JSON.stringify(value);
  return text.length > LONGEST ? undefined : text;
}

/** Looks at no more of a value than may be in a short text. */
function isShort(value: unknown, budget: { left: number }): boolean {
  budget.left -= typeof value === "string" ? value.length : 1;
  if (budget.left < 0) return false;
  if (typeof value !== "object" || value === null) return true;
  for (const key in value) {
    budget.left -= key.length;
    if (!isShort((value as Record<string, unknown>)[key], budget)) return false;
  }
  return true;
}

/** JSON text of an event, which may parse itself on first use. */
function textOfEvent(event: StoredEvent): string {
  const { stream, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta } = event;
  return JSON.stringify({ stream, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta });
}

function lengthOf({ event, before = "", after }: FoldSample): number {
  return event.length + before.length + after.length;
}
