import { isOutcomesType } from "../stream-names.ts";
import type { CommandEnvelope } from "../aggregate/messages.ts";
import type { EventStore, StoreSizes } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { countSubjects } from "../personal/open-personal-store.ts";
import type { ProcessManagers } from "../process-manager/process-managers.ts";
import type { Projections } from "../projection/projections.ts";
import type { UnknownEvents, UnknownEventStatus } from "../projection/unknown-events.ts";

/** How far a reader of the log is. */
export interface ConsumerStatus {
  readonly name: string;
  /** Position of the last event that it has dealt with. */
  readonly position: number;
  /** How many events of the store come after that one, whether it wants them or not. */
  readonly lag: number;
}

export interface ProcessManagerStatus extends ConsumerStatus {
  /** Commands that wait for their time, the next one first. */
  readonly scheduled: readonly {
    readonly key: string | undefined;
    /** Milliseconds since 1970. */
    readonly due: number;
    readonly envelope: CommandEnvelope;
  }[];
  /** Commands that could not be delivered. */
  readonly deadLetters: number;
}

/** A store as it is now. */
export interface StoreStatus {
  /** Position of the last event; 0 if there is none. */
  readonly head: number;
  /** How many instances have events. */
  readonly streams: number;
  readonly projections: readonly ConsumerStatus[];
  readonly processManagers: readonly ProcessManagerStatus[];
  /** The named subscriptions, also those that are not running. Their positions are those that they last saved. */
  readonly subscriptions: readonly ConsumerStatus[];
  /** Events of registered aggregates that their contracts do not declare. `onUnknownEvent` says whether readers pass over them. */
  readonly unknownEvents: readonly UnknownEventStatus[];
  /** The first event that can be read, if there is one. */
  readonly oldest?: {
    readonly position: number;
    /** Milliseconds since 1970. */
    readonly timestamp: number;
  };
  /** How many persons have personal fields that are not forgotten, if the store encrypts some. */
  readonly subjects?: number;
  /** Size of the store in its storage, if the storage can tell. */
  readonly bytes?: number;
  /** The parts of that size. */
  readonly sizes?: StoreSizes;
}

export async function storeStatus(
  events: EventStore,
  projections: Projections,
  managers: ProcessManagers,
  unknown: UnknownEvents,
): Promise<StoreStatus> {
  await refreshBeforeReading(events);
  const [streams, folded, managed, names, unknownEvents, sizes, oldest, subjects] = await Promise.all([
    events.listStreams(),
    projections.positions(),
    managers.statuses(),
    events.listCheckpoints("subscription"),
    unknown.all(),
    events.sizes?.(),
    oldestOf(events),
    countSubjects(events),
  ]);
  const subscribed = await Promise.all(
    names.map(async (name) => ({ name, position: (await events.loadCheckpoint("subscription", name))?.position ?? 0 })),
  );
  // Last, so that no consumer is ahead of it.
  const head = await events.head();
  const withLag = ({ name, position }: { readonly name: string; readonly position: number }): ConsumerStatus => ({
    name,
    position,
    lag: Math.max(head - position, 0),
  });
  return {
    head,
    streams: streams.filter(({ type }) => !isOutcomesType(type)).length,
    projections: folded.map(withLag),
    processManagers: managed.map(({ scheduled, deadLetters, ...manager }) => ({
      ...withLag(manager),
      scheduled: scheduled.map(({ key, due, envelope }) => ({ key, due, envelope })).sort((a, b) => a.due - b.due),
      deadLetters,
    })),
    subscriptions: subscribed.map(withLag),
    unknownEvents,
    ...(oldest === undefined ? {} : { oldest }),
    ...(subjects === undefined ? {} : { subjects }),
    ...(sizes === undefined ? {} : { bytes: sizes.log + sizes.streams + sizes.caches + sizes.other, sizes }),
  };
}

async function oldestOf(events: EventStore): Promise<StoreStatus["oldest"]> {
  for await (const batch of events.readAll())
    for (const { position, timestamp } of batch) return { position, timestamp };
  return undefined;
}
