import { EventfoldError, InvalidPayloadError } from "../errors.ts";
import { CUT_TYPES } from "../cut.ts";
import type { EventDraft, StoredEvent } from "../event-store/event-store.ts";
import type { NamedFunction } from "../fingerprint.ts";
import { ignoreFailure, isPromise, messageOf } from "../realm.ts";
import type { AnyContract, AppliedEvent } from "./aggregate.ts";
import { contextOf } from "./context.ts";
import type { PastEvent, Replaced } from "./history.ts";
import type { RecordedEvent } from "./messages.ts";
import { type Payload, type Payloads, type PayloadShape, shapesOf } from "./payload.ts";
import { describedSchema } from "./schema-text.ts";
import { shownIssues, validated } from "./validate.ts";

type GlanceKey = "type" | "data" | "aggregate" | "id" | "version" | "position";

/** What `glance` gives. */
export const PARTIAL_EVENT_FIELDS: ReadonlySet<string> = new Set<GlanceKey>([
  "type",
  "data",
  "aggregate",
  "id",
  "version",
  "position",
]);

/** How the events with a stored type are read. */
interface Reading {
  /** What readers see of them: events of the type `to`, whatever `convert` makes of them, or nothing. */
  readonly kind: "current" | "replaced" | "dropped";
  /** Empty unless the kind is `"current"`. */
  readonly to: string;
  readonly shapes: readonly PayloadShape[];
  /** No steps and no schemas: the payload is what is stored. */
  readonly isPlain: boolean;
  readonly convert?: (data: never) => unknown;
}

/** An event as readers see it, without its record. */
export interface EventPart {
  readonly type: string;
  readonly data: unknown;
}

/** Functions of a history may return older events, which other entries convert. A history in a circle ends here. */
const MOST_CONVERSIONS = 100;

/** Turns stored events of one aggregate into what users see: present names, and payloads in their newest shape. */
export class EventReader {
  readonly #type: string;
  readonly #readings: ReadonlyMap<string, Reading>;

  constructor(aggregate: AnyContract) {
    const { events, history = [] } = (aggregate as unknown as { readonly contract: Contract }).contract;
    this.#type = aggregate.type;
    const readings = new Map<string, Reading>();
    for (const [type, payload] of Object.entries(events)) readings.set(type, reading("current", type, payload));
    for (const entry of history) {
      if (entry.kind === "dropped") readings.set(entry.from, { kind: "dropped", to: "", shapes: [], isPlain: true });
      if (entry.kind !== "replaced") continue;
      const { payload, convert } = entry as Replaced;
      readings.set(entry.from, { ...reading("replaced", "", payload), convert });
    }
    const names = new Map(history.flatMap((entry) => (entry.kind === "renamed" ? [[entry.from, entry.to]] : [])));
    for (const from of names.keys()) {
      let to: string | undefined = from;
      while (to !== undefined && names.has(to)) to = names.get(to);
      readings.set(from, readings.get(to ?? "") as Reading);
    }
    this.#readings = readings;
  }

  /** How many shapes of an event's payload came before the newest. */
  schemaVersion(type: string): number {
    return Math.max((this.#readings.get(type)?.shapes.length ?? 1) - 1, 0);
  }

  /** All that reading depends on, for fingerprints. */
  get functions(): NamedFunction[] {
    return [...this.#readings].flatMap(([stored, { kind, to, shapes, convert }]) => {
      const place = `${this.#type}.${stored}`;
      const steps = shapes.flatMap(({ schema, upcast }, step): NamedFunction[] => [
        ...(upcast === undefined ? [] : [[`${place}, step ${step}`, upcast] as const]),
        ...(schema === undefined ? [] : [[`${place}, schema ${step}`, describedSchema(schema)] as const]),
      ]);
      return stored === to ? steps : [...steps, [`${place}: ${kind} ${to}`, convert ?? kind] as const];
    });
  }

  /** The types that events may be stored with, of this and of earlier code. */
  get storedTypes(): ReadonlySet<string> {
    return new Set(this.#readings.keys());
  }

  /** The stored types of which events of the given types are made. */
  storedTypesOf(types: ReadonlySet<string>): Set<string> {
    const found = [...this.#readings].filter(([, { kind, to }]) => kind === "replaced" || types.has(to));
    const stored = new Set(found.map(([type]) => type));
    // No contract declares it, and no history can rename it.
    if (types.has(CUT_TYPES.deleted)) stored.add(CUT_TYPES.deleted);
    return stored;
  }

  /** Whether events are read under the name that they are stored with, if their type is known at all. */
  isCurrent(type: string): boolean {
    return this.#readings.get(type)?.to === type || !this.#readings.has(type);
  }

  /** What became of a type that events are stored with and that is no event of the contract. */
  pastOf(type: string): "renamed" | "replaced" | "dropped" | undefined {
    const found = this.#readings.get(type);
    if (found === undefined || (found.kind === "current" && found.to === type)) return undefined;
    return found.kind === "current" ? "renamed" : found.kind;
  }

  /** The payload in its newest shape; `undefined` for none. A schema version of `Infinity` says that it is in the newest already. */
  dataOf(event: StoredEvent): unknown {
    const found = this.#readings.get(event.type);
    if (found === undefined || (found.isPlain && event.schemaVersion === 0)) return event.data ?? undefined;
    return this.#newest(event, found);
  }

  #newest(event: StoredEvent, { shapes }: Reading): unknown {
    const last = shapes.length - 1;
    const done = event.schemaVersion;
    if (done > last && done !== Infinity) {
      throw new EventfoldError(
        "UNKNOWN_EVENT",
        `${this.#where(event)}: ${event.type} has shape ${done + 1}, newer than the ${last + 1} that this program knows; update the program`,
      );
    }
    let step = Math.min(done, last);
    let data = this.#parsed(event, event.type, shapes[step], step, event.data ?? undefined);
    while (step < last) {
      step++;
      const { upcast } = shapes[step] as PayloadShape;
      data = this.#called(event, `step ${step} of ${event.type}`, upcast as (data: never) => unknown, data);
      data = this.#parsed(event, event.type, shapes[step], step, data);
    }
    return data;
  }

  #called(event: StoredEvent, what: string, convert: (data: never) => unknown, data: unknown): unknown {
    let result: unknown;
    try {
      result = convert(data as never);
    } catch (cause) {
      throw this.#failed(event, `${what} failed: ${messageOf(cause)}`, cause);
    }
    if (!isPromise(result)) return result;
    ignoreFailure(result);
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${this.#where(event)}: ${what} returned a promise; expected its result, at once`,
    );
  }

  #parsed(event: StoredEvent, type: string, shape: PayloadShape | undefined, step: number, data: unknown): unknown {
    const schema = shape?.schema;
    if (schema === undefined) return data;
    const what = `shape ${step + 1} of ${type}`;
    let result = validated(schema, data, what);
    // No payload is stored like one that is null.
    if (result.issues !== undefined && data === undefined) {
      const withNull = validated(schema, null, what);
      if (withNull.issues === undefined) result = withNull;
    }
    if (result.issues === undefined) return result.value;
    const problem = shownIssues(result.issues);
    throw this.#failed(
      event,
      `the payload does not fit ${what}: ${problem}; add a step that converts it, or a schema that accepts it`,
      new InvalidPayloadError(problem, result.issues),
    );
  }

  #failed(event: StoredEvent, why: string, cause?: unknown): EventfoldError {
    return new EventfoldError("UPCAST_FAILED", `${this.#where(event)}: ${why}`, { cause });
  }

  #where({ stream, version, position }: StoredEvent): string {
    return `${this.#type} ${JSON.stringify(stream.id)}, version ${version}, position ${position}`;
  }

  /** What readers see of an event. Usually it is one event; none if it was dropped, and several if it was split. */
  parts(event: StoredEvent): readonly EventPart[] {
    const found = this.#readings.get(event.type);
    if (found === undefined) return [{ type: event.type, data: event.data ?? undefined }];
    if (found.kind === "dropped") return [];
    const data = this.dataOf(event);
    if (found.kind === "current") return [{ type: found.to, data }];
    const parts: EventPart[] = [];
    this.#convert(event, event.type, found, data, parts, 0);
    return parts;
  }

  #convert(
    event: StoredEvent,
    type: string,
    { convert }: Reading,
    data: unknown,
    parts: EventPart[],
    depth: number,
  ): void {
    const what = `the replacement of ${type}`;
    if (depth > MOST_CONVERSIONS) throw this.#failed(event, `${what} leads to itself`);
    const result = this.#called(event, what, convert as (data: never) => unknown, data);
    const list: readonly unknown[] =
      result === undefined || result === null ? [] : Array.isArray(result) ? result : [result];
    for (const item of list) {
      const found =
        typeof item === "object" && item !== null && "type" in item ? this.#readings.get(String(item.type)) : undefined;
      if (found === undefined)
        throw this.#failed(
          event,
          `${what} returned something that is not an event of the contract; expected { type, data? }`,
        );
      if (found.kind === "dropped") continue;
      const { type: next, data: given } = item as EventPart;
      const newest = this.#parsed(event, next, found.shapes.at(-1), found.shapes.length - 1, given ?? undefined);
      if (found.kind === "current") parts.push({ type: found.to, data: newest });
      else this.#convert(event, next, found, newest, parts, depth + 1);
    }
  }

  /** The same as stored events that need no conversion any more. */
  storedParts(event: StoredEvent): readonly StoredEvent[] {
    if (this.isCurrent(event.type)) return [event];
    const { stream, version, position, timestamp, actor, meta } = event;
    return this.parts(event).map(({ type, data }, index) => {
      const eventId = index === 0 ? event.eventId : partId(event, index);
      return { stream, type, data, schemaVersion: Infinity, version, position, timestamp, eventId, actor, meta };
    });
  }

  /** The events that readers see of a stored one, with its record. All have its version and position. */
  recorded(event: StoredEvent): readonly RecordedEvent[] {
    const found = this.#readings.get(event.type);
    if (found === undefined || found.to === event.type) return [this.recordedCurrent(event)];
    return this.parts(event).map((part, index) => recordedPart(event, part, index));
  }

  /** An event that is read under the name that it is stored with. */
  recordedCurrent(event: StoredEvent): RecordedEvent {
    return recordedEvent(event, this.dataOf(event));
  }

  /** An event with only the fields that need no metadata: for handlers that provably read nothing else. */
  partialEvent(event: StoredEvent): Pick<RecordedEvent, GlanceKey> {
    const { type, stream, version, position } = event;
    const data = this.dataOf(event);
    const { type: aggregate, id } = stream;
    return data === undefined
      ? { type, aggregate, id, version, position }
      : { type, data, aggregate, id, version, position };
  }
}

interface Contract {
  readonly events: Payloads;
  readonly history?: readonly PastEvent[];
}

function reading(kind: Reading["kind"], to: string, payload: Payload): Reading {
  const shapes = shapesOf(payload);
  return { kind, to, shapes, isPlain: shapes.length === 1 && shapes[0]?.schema === undefined };
}

/** One of the events that readers see of a stored event. The first has the stored event's id. */
export function recordedPart(event: StoredEvent, { type, data }: EventPart, index: number): RecordedEvent {
  const record = { ...recordedEvent(event, data), type };
  return index === 0 ? record : { ...record, eventId: partId(event, index) };
}

function partId(event: StoredEvent, index: number): string {
  return `${eventIdOf(event)}:${index + 1}`;
}

/** An event of the Rust crate may have no id. */
function eventIdOf({ eventId, stream, version }: StoredEvent): string {
  return eventId ?? `${stream.type}/${stream.id}/${version}`;
}

/** A stored event as users see it, with the given payload. */
export function recordedEvent(event: StoredEvent, data: unknown): RecordedEvent {
  const { stream, version } = event;
  const eventId = eventIdOf(event);
  const { type, timestamp, actor, meta } = event;
  const record = appliedEvent(
    stream.type,
    stream.id,
    type,
    data ?? undefined,
    eventId,
    version,
    timestamp,
    actor,
    meta,
  );
  return Object.assign(record, { position: event.position }) as RecordedEvent;
}

/** An event's record; without its position when that is not known yet. */
export function appliedEvent(
  aggregate: string,
  id: string,
  type: string,
  data: unknown,
  eventId: string,
  version: number,
  timestamp: number,
  actor: string | undefined,
  meta: EventDraft["meta"],
  position?: number,
): AppliedEvent<string, unknown> {
  const { correlationId, causationId, sourceDevice, metadata } = contextOf(meta);
  // One literal for each of the most frequent shapes: a hundred thousand of these are made in one go.
  const isUsual =
    data !== undefined && position !== undefined && causationId === undefined && sourceDevice === undefined;
  const record =
    isUsual && actor !== undefined && correlationId !== undefined
      ? { type, data, aggregate, id, eventId, version, timestamp, position, actor, correlationId, metadata }
      : isUsual && actor === undefined && correlationId === undefined
        ? { type, data, aggregate, id, eventId, version, timestamp, position, metadata }
        : {
            type,
            ...(data === undefined ? undefined : { data }),
            aggregate,
            id,
            eventId,
            version,
            timestamp,
            ...(position === undefined ? undefined : { position }),
            ...(actor === undefined ? undefined : { actor }),
            ...(correlationId === undefined ? undefined : { correlationId }),
            ...(causationId === undefined ? undefined : { causationId }),
            ...(sourceDevice === undefined ? undefined : { sourceDevice }),
            metadata,
          };
  return record as AppliedEvent<string, unknown>;
}
