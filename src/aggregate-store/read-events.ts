import type { AnyContract } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { type EventFilter, EventSelection } from "../subscription/event-filter.ts";
import type { Instances } from "./instances.ts";

/** Positions of the first and the largest part that is read at once in reverse. A part is held in memory. */
const FIRST_PART = 64;
const LARGEST_PART = 4096;

/** Which events to read. All conditions must hold. */
export interface ReadEventsOptions<
  N extends AnyContract | string = AnyContract | string,
  T extends string = string,
> extends EventFilter<N, T> {
  /** First position; 1 if left out. */
  readonly from?: number;
  /** Last position; the last event of the store if left out. */
  readonly to?: number;
  /** Only events of instances with these ids. */
  readonly ids?: readonly string[];
  /** Only events with this correlation id. */
  readonly correlationId?: string;
  /** Newest first. */
  readonly reverse?: boolean;
  /** At most so many events. */
  readonly limit?: number;
}

/** Reads the events of a store that are there when reading begins. */
export async function* readEvents(
  events: EventStore,
  instances: Instances,
  options: ReadEventsOptions,
): AsyncGenerator<RecordedEvent, void, undefined> {
  const { from = 1, to = Infinity, limit = Infinity, reverse = false } = options;
  if (limit === 0) return;
  await refreshBeforeReading(events);
  const horizon = await events.head();
  const range = { from, to: Math.min(to, horizon), horizon };
  const selection = new EventSelection(options, (type) => instances.reader(type));
  const isWanted = wantedInstances(options);
  const { wanted } = selection;
  let count = 0;
  const batches = reverse ? backwards(events, range, wanted) : events.readAll({ ...range, wanted });
  for await (const batch of batches) {
    for (const event of batch) {
      if (!isWanted(event)) continue;
      const parts = selection.of(event);
      for (const part of reverse && parts.length > 1 ? parts.toReversed() : parts) {
        yield part;
        if (++count >= limit) return;
      }
    }
  }
}

/** Reads part after part, each forward, the last part first: no store has to read backwards. */
async function* backwards(
  events: EventStore,
  { from, to, horizon }: { readonly from: number; readonly to: number; readonly horizon: number },
  wanted: EventTypes | undefined,
): AsyncGenerator<readonly StoredEvent[], void, undefined> {
  let size = FIRST_PART;
  for (let last = to; last >= from; last -= size, size = Math.min(size * 2, LARGEST_PART)) {
    const part: StoredEvent[] = [];
    const first = Math.max(from, last - size + 1);
    for await (const batch of events.readAll({ from: first, to: last, wanted, horizon }))
      for (const event of batch) part.push(event);
    yield part.reverse();
  }
}

function wantedInstances(options: ReadEventsOptions): (event: StoredEvent) => boolean {
  const { correlationId } = options;
  const ids = options.ids === undefined ? undefined : new Set(options.ids);
  return (event) =>
    (ids?.has(event.stream.id) ?? true) &&
    (correlationId === undefined || event.meta?.["correlation_id"] === correlationId);
}

/** Throws `INVALID_ARGUMENT` for options that cannot be meant. */
export function checkReadOptions({ from, to, limit }: ReadEventsOptions): void {
  for (const [name, position] of Object.entries({ from, to }))
    if (position !== undefined && !(Number.isSafeInteger(position) && position >= 1))
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `events expected ${name} to be a position, 1 or more, found ${String(position)}`,
      );
  if (limit !== undefined && limit !== Infinity && !(Number.isSafeInteger(limit) && limit >= 0))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `events expected limit to be a number of events, 0 or more, found ${String(limit)}`,
    );
}
