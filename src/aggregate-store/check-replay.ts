import type { AnyAggregate } from "../aggregate/aggregate.ts";
import { recordedEvent } from "../aggregate/event-reader.ts";
import { freeze } from "../aggregate/freeze.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { AggregateModel } from "../aggregate/model.ts";
import { changesOf, isSameValue, type ValueChange } from "../aggregate/value-changes.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, EventTypes, StoredEvent, StreamName } from "../event-store/event-store.ts";
import { cutOfType } from "../cut.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { copyOf } from "../json.ts";
import { type AnyProcessManager, processManagerDefinition } from "../process-manager/process-manager.ts";
import { outputsOfEvent } from "../process-manager/reaction.ts";
import { EventSources } from "../projection/event-sources.ts";
import { ProjectionFold } from "../projection/projection-fold.ts";
import { type AnyProjection, definitionOf } from "../projection/projection.ts";
import { initialOf } from "../aggregate/initial-state.ts";
import { messageOf } from "../realm.ts";
import type { AggregateStore } from "./aggregate-store.ts";
import { partsOf, type StoreParts } from "./store-parts.ts";

/** An instance, projection or process manager that comes out differently with new code. */
export interface ReplayDifference {
  readonly kind: "instance" | "projection" | "process-manager";
  /** The aggregate's type, or the name of the projection or process manager. */
  readonly name: string;
  /** The instance's id; `undefined` for the other kinds. */
  readonly id: string | undefined;
  /** The first event that makes the difference, as it is stored; `undefined` if the initial states differ. */
  readonly event: RecordedEvent | undefined;
  /** What differs after that event: parts of the state, or of what a process manager does. */
  readonly changes: readonly ValueChange[];
  /** The message of the error, if the new code has thrown one. */
  readonly error: string | undefined;
}

type Definition = AnyAggregate | AnyProjection | AnyProcessManager;
/** What one version of the code makes of an event, or the error that it throws. */
type Outcome = { readonly value: unknown; readonly error?: undefined } | { readonly error: string };

/** One version of the code. A new one begins with the first event. */
interface Replay {
  readonly initial: Outcome;
  next(event: StoredEvent): Outcome;
}

/**
 * Replays the events of a store with new definitions beside the ones that the store has, and lists the instances, projections and
 * process managers that come out differently. Writes nothing and uses no caches. A definition replaces the registered one with its type or
 * name. Throws `INVALID_ARGUMENT` for a definition that replaces none.
 */
export async function checkReplay(
  store: AggregateStore<never, never> | AggregateStore,
  definitions: readonly Definition[],
): Promise<ReplayDifference[]> {
  const parts = partsOf(store);
  await refreshBeforeReading(parts.events);
  const differences: ReplayDifference[] = [];
  for (const definition of definitions) {
    if ("contract" in definition) {
      for await (const difference of instancesOf(parts, definition)) differences.push(difference);
    } else {
      const difference =
        definition.kind === "projection" ? await projectionOf(parts, definition) : await managerOf(parts, definition);
      if (difference !== undefined) differences.push(difference);
    }
  }
  return differences;
}

async function* instancesOf(
  { events, instances }: StoreParts,
  aggregate: AnyAggregate,
): AsyncGenerator<ReplayDifference, void, undefined> {
  const { type } = aggregate;
  if (instances.reader(type) === undefined) throw notRegistered(`aggregate ${type}`);
  const [before, after] = [instances.model(type), AggregateModel.of(aggregate)];
  for (const stream of await events.listStreams(type)) {
    const read = (): AsyncIterable<readonly StoredEvent[]> => events.readStream(stream);
    const found = await firstDifference(read, () => [stateReplay(before, stream), stateReplay(after, stream)]);
    if (found !== undefined) yield { kind: "instance", name: type, id: stream.id, ...found };
  }
}

function stateReplay(model: AggregateModel, { id }: StreamName): Replay {
  let state = model.initial();
  return {
    initial: { value: state },
    next: (event) =>
      outcomeOf(() => {
        state = freeze(model.fold(state, event, "error"));
        model.checkState(state, id);
        return state;
      }),
  };
}

async function projectionOf(
  { events, projections }: StoreParts,
  projection: AnyProjection,
): Promise<ReplayDifference | undefined> {
  const { name } = projection;
  const registered = projections.get(name);
  if (registered === undefined) throw notRegistered(`projection ${name}`);
  const definitions = [registered, definitionOf(projection)] as const;
  const read = readerOf(events, definitions);
  const replay = (definition: (typeof definitions)[number]): Replay => {
    const fold = new ProjectionFold(definition);
    const isDeclared = declarationsOf(definition);
    let state = fold.initial;
    return {
      initial: { value: state },
      next: (event) =>
        outcomeOf(() => {
          isDeclared(event);
          return (state = fold.next(state, event));
        }),
    };
  };
  const found = await firstDifference(read, () => [replay(definitions[0]), replay(definitions[1])], "mutable");
  return found === undefined ? undefined : { kind: "projection", name, id: undefined, ...found };
}

async function managerOf(
  { events, managers }: StoreParts,
  manager: AnyProcessManager,
): Promise<ReplayDifference | undefined> {
  const { name } = manager;
  const registered = managers.get(name);
  if (registered === undefined) throw notRegistered(`process manager ${name}`);
  const definitions = [registered, processManagerDefinition(manager)] as const;
  const replay = (definition: (typeof definitions)[number]): Replay => {
    const sources = new EventSources<(state: unknown, event: unknown) => unknown>(definition);
    const isDeclared = declarationsOf(definition);
    let state = initialOf(definition.initial);
    const done: unknown[] = [];
    return {
      initial: { value: { state, done } },
      next: (event) =>
        outcomeOf(() => {
          isDeclared(event);
          const source = sources.of(event.stream.type);
          if (source === undefined) return { state, done };
          const { state: next, ...outputs } = outputsOfEvent(name, source, event, state);
          state = next;
          if (outputs.commands.length + outputs.schedule.length + outputs.cancel.length > 0)
            done.push({ position: event.position, ...outputs });
          return { state, done };
        }),
    };
  };
  const found = await firstDifference(
    readerOf(events, definitions),
    () => [replay(definitions[0]), replay(definitions[1])],
    "mutable",
  );
  return found === undefined ? undefined : { kind: "process-manager", name, id: undefined, ...found };
}

type Sources = { readonly sources: readonly { readonly aggregate: { readonly type: string } }[] };

/** Reads all events of the aggregates that any of the definitions handles. */
function readerOf(events: EventStore, definitions: readonly Sources[]): () => AsyncIterable<readonly StoredEvent[]> {
  const types = new Set(definitions.flatMap(({ sources }) => sources.map(({ aggregate }) => aggregate.type)));
  return async function* () {
    for await (const batch of events.readAll()) yield batch.filter(({ stream }) => types.has(stream.type));
  };
}

/** Throws for an event that the contract of a source does not declare. */
function declarationsOf(definition: Parameters<typeof storedTypes>[0]): (event: StoredEvent) => void {
  const declared = storedTypes(definition);
  return ({ stream, type }) => {
    if (declared.get(stream.type)?.has(type) === false && cutOfType(type) === undefined)
      throw new EventfoldError("UNKNOWN_EVENT", `${stream.type} does not declare the event ${JSON.stringify(type)}`);
  };
}

function storedTypes(definition: {
  readonly sources: ConstructorParameters<typeof EventSources>[0]["sources"];
}): EventTypes {
  const sources = new EventSources<unknown>({ initial: null, sources: definition.sources as never });
  return new Map(
    definition.sources.map(({ aggregate: { type } }) => [type, sources.of(type)?.reader.storedTypes ?? new Set()]),
  );
}

/**
 * Compares two versions of the code at the end, and then looks for the event at which they part: each pass compares
 * them at one event, half-way between an event at which they were equal and one at which they differed.
 */
async function firstDifference(
  read: () => AsyncIterable<readonly StoredEvent[]>,
  begin: () => readonly [Replay, Replay],
  kind?: "mutable",
): Promise<Pick<ReplayDifference, "event" | "changes" | "error"> | undefined> {
  const compare = async (last: number): Promise<{ readonly count: number; readonly found: Pair | undefined }> => {
    const [before, after] = begin();
    let pair: readonly [Outcome, Outcome] = [before.initial, after.initial];
    let event: StoredEvent | undefined;
    let count = 0;
    reading: for await (const batch of last === 0 ? [] : read()) {
      for (event of batch) {
        pair = [before.next(event), after.next(event)];
        count++;
        if (count === last || (pair[1].error !== undefined && pair[0].error === undefined)) break reading;
      }
    }
    return { count, found: isEqual(pair) ? undefined : [...pair, event] };
  };
  let { count: high, found } = await compare(Infinity);
  if (found === undefined) return undefined;
  let low = -1;
  while (high - low > 1) {
    const middle = Math.max(0, (low + high) >> 1);
    const { found: earlier } = await compare(middle);
    if (earlier === undefined) low = middle;
    else [high, found] = [middle, earlier];
  }
  const [before, after, event] = found;
  const valueOf = (outcome: Outcome): unknown => (outcome.error === undefined ? outcome.value : undefined);
  return {
    event: high === 0 || event === undefined ? undefined : recordedEvent(event, event.data),
    changes: after.error === undefined ? copied(changesOf(valueOf(before), valueOf(after)), kind) : [],
    error: after.error,
  };
}

type Pair = readonly [before: Outcome, after: Outcome, event?: StoredEvent | undefined];

function isEqual([before, after]: readonly [Outcome, Outcome]): boolean {
  if (before.error !== undefined || after.error !== undefined)
    return before.error !== undefined && after.error !== undefined;
  return isSameValue(before.value, after.value);
}

/** States of projections change while they are folded. */
function copied(changes: readonly ValueChange[], kind: "mutable" | undefined): readonly ValueChange[] {
  if (kind === undefined) return changes;
  return changes.map(({ path, before, after }) => ({ path, before: copyOf(before), after: copyOf(after) }));
}

function outcomeOf(run: () => unknown): Outcome {
  try {
    return { value: run() };
  } catch (error) {
    return { error: messageOf(error) };
  }
}

function notRegistered(what: string): EventfoldError {
  return new EventfoldError(
    "INVALID_ARGUMENT",
    `checkReplay expected definitions that replace registered ones, found the ${what}, which the store does not have`,
  );
}
