import { EventfoldError } from "../errors.ts";
import type { EventDraft, StoredEvent } from "../event-store/event-store.ts";
import type { NamedFunction } from "../fingerprint.ts";
import { ignoreFailure, isPromise } from "../realm.ts";
import type { AnyContract, AppliedEvent } from "./aggregate.ts";
import { contextOf } from "./context.ts";
import type { RecordedEvent } from "./messages.ts";
import { type Payloads, upcastersOf } from "./payload.ts";

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

type Upcasters = readonly ((data: unknown) => unknown)[];

/** Turns stored events of one aggregate into what users see: payloads in their newest shape. */
export class EventReader {
  readonly #type: string;
  readonly #upcasters: ReadonlyMap<string, Upcasters>;

  constructor(aggregate: AnyContract) {
    const { events } = (aggregate as unknown as { readonly contract: { readonly events: Payloads } }).contract;
    this.#type = aggregate.type;
    this.#upcasters = new Map(
      Object.entries(events).map(([type, payload]) => [type, upcastersOf(payload) as Upcasters]),
    );
  }

  /** How many shapes of an event's payload came before the newest. */
  schemaVersion(type: string): number {
    return this.#upcasters.get(type)?.length ?? 0;
  }

  /** All that reading depends on, for fingerprints. */
  get functions(): NamedFunction[] {
    return [...this.#upcasters].flatMap(([type, upcasters]) =>
      upcasters.map((upcast, step): NamedFunction => [`${this.#type}.${type}, step ${step + 1}`, upcast]),
    );
  }

  /** The payload in its newest shape; `undefined` for none. A schema version of `Infinity` says that it is in the newest already. */
  dataOf(event: StoredEvent): unknown {
    let { data } = event;
    const upcasters = this.#upcasters.get(event.type);
    const done = upcasters === undefined ? 0 : event.schemaVersion;
    if (upcasters !== undefined && done !== upcasters.length) {
      if (done > upcasters.length && done !== Infinity) {
        throw new EventfoldError(
          "UNKNOWN_EVENT",
          `${this.#type} ${JSON.stringify(event.stream.id)}, version ${event.version}: ${event.type} has shape ${done + 1}, newer than the ${upcasters.length + 1} that this program knows`,
        );
      }
      for (let step = done; step < upcasters.length; step++) data = upcasters[step]?.(data);
      if (isPromise(data)) {
        ignoreFailure(data);
        throw new EventfoldError(
          "INVALID_DEFINITION",
          `an upcaster of ${event.type} of ${this.#type} returned a promise; expected the payload, at once`,
        );
      }
    }
    return data ?? undefined;
  }

  recorded(event: StoredEvent): RecordedEvent {
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

/** A stored event as users see it, with the given payload. */
export function recordedEvent(event: StoredEvent, data: unknown): RecordedEvent {
  const { stream, version } = event;
  const eventId = event.eventId ?? `${stream.type}/${stream.id}/${version}`;
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
