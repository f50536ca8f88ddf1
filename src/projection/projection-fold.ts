import { type EventReader, PARTIAL_EVENT_FIELDS } from "../aggregate/event-reader.ts";
import { differing, type FoldDifference, type FoldSample, type FoldSamples } from "../aggregate/fold-samples.ts";
import { usesOnly } from "../aggregate/source-inspection.ts";
import { EventfoldError } from "../errors.ts";
import type { EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { ignoreFailure, isPromise, messageOf } from "../realm.ts";
import { EventSources } from "./event-sources.ts";
import { initialOf } from "../aggregate/initial-state.ts";
import type { ProjectionDefinition } from "./projection.ts";

type Handler = (state: unknown, event: unknown) => unknown;

/** What handles the events that are stored with one type. */
interface Entry {
  readonly reader: EventReader;
  /** The handler of this type; `undefined` for a type that is read under other names. */
  readonly handler: Handler | undefined;
  /** It reads only the fields of a partial event. */
  readonly isPartial: boolean;
  /** The initial state is an object: no handler makes anything else of it, only an arrow function that returns what it assigns. */
  readonly isObject: boolean;
  /** All handlers of the aggregate's events. */
  readonly handlers: ReadonlyMap<string, Handler>;
}

/** A projection's fold: its initial state and its handlers. */
export class ProjectionFold {
  readonly #initial: unknown;
  /** By type of aggregate and of event. */
  readonly #entries: ReadonlyMap<string, ReadonlyMap<string, Entry>>;
  readonly wanted: EventTypes;
  readonly fingerprint: string;

  constructor({ initial, sources: declared, version }: ProjectionDefinition) {
    const sources = new EventSources<Handler>({ initial, sources: declared, version });
    this.#initial = initial;
    const begin = this.initial;
    const isObject = typeof begin === "object" && begin !== null;
    this.wanted = sources.wanted;
    this.fingerprint = sources.fingerprint;
    this.#entries = new Map(
      declared.map(({ aggregate: { type } }) => {
        const entries = new Map<string, Entry>();
        const source = sources.of(type);
        if (source === undefined) return [type, entries];
        for (const event of sources.wanted.get(type) ?? []) {
          const handler = source.reader.isCurrent(event) ? source.handlers.get(event) : undefined;
          const isPartial = handler !== undefined && usesOnly(handler, PARTIAL_EVENT_FIELDS);
          entries.set(event, { ...source, handler, isPartial, isObject });
        }
        return [type, entries];
      }),
    );
  }

  /** A fresh initial state. */
  get initial(): unknown {
    return initialOf(this.#initial);
  }

  /** The state after an event. It may be the given one, changed. What a handler throws passes through. Takes a sample if one is due. */
  next(state: unknown, event: StoredEvent, samples?: FoldSamples): unknown {
    const entry = this.#entries.get(event.stream.type)?.get(event.type);
    if (entry === undefined) return state;
    if (samples === undefined) return fold(entry, state, event);
    const counter = samples.counterOf(entry, event);
    if (++counter.count !== counter.next) return fold(entry, state, event);
    const begun = samples.begin(counter, state, event);
    const next = fold(entry, state, event);
    if (begun !== undefined) samples.complete(begun, next, (again) => this.next(this.initial, again));
    return next;
  }

  /** The first sample that the handlers make another state of. */
  differing(samples: readonly FoldSample[]): FoldDifference | undefined {
    return differing(samples, (before, event) => this.next(before === undefined ? this.initial : before.state, event));
  }
}

/** The error of a handler that has thrown. */
export function failedFold(projection: string, event: StoredEvent, cause: unknown): EventfoldError {
  const { type, stream, version, position } = event;
  return new EventfoldError(
    "PROJECTION_FAILED",
    `projection ${projection} failed on ${type} of ${stream.type} ${JSON.stringify(stream.id)}, version ${version}, position ${position}: ${messageOf(cause)}`,
    { cause },
  );
}

function fold(entry: Entry, before: unknown, event: StoredEvent): unknown {
  const { handler, reader, isPartial, isObject, handlers } = entry;
  // Most handlers look at the payload and the id alone: the rest need not be read for them.
  if (handler !== undefined)
    return handled(handler, before, isPartial ? reader.partialEvent(event) : reader.recordedCurrent(event), isObject);
  let state = before;
  for (const recorded of reader.recorded(event)) {
    const partHandler = handlers.get(recorded.type);
    if (partHandler !== undefined) state = handled(partHandler, state, recorded, isObject);
  }
  return state;
}

function handled(handler: Handler, state: unknown, event: unknown, isObject: boolean): unknown {
  const result = handler(state, event);
  if (isPromise(result)) {
    ignoreFailure(result);
    throw new TypeError("the handler is asynchronous; a state is folded from the events alone, at once");
  }
  if (result === undefined) return state;
  if (isObject && typeof result !== "object")
    throw new TypeError(
      `the handler returned a ${typeof result}, but the state is an object; change it and return nothing, or return another object`,
    );
  return result;
}
