import { checkContext, metaOf } from "../aggregate/context.ts";
import { freeze } from "../aggregate/freeze.ts";
import { IdempotencyKeys } from "../aggregate/instance/idempotency-keys.ts";
import { type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { CommandContext } from "../aggregate/messages.ts";
import type { AggregateModel, Environment } from "../aggregate/model.ts";
import { changesOf, type ValueChange } from "../aggregate/value-changes.ts";
import { type CompactionData, compactionOf, CUT_TYPES, cutOfType, replacedIds } from "../cut.ts";
import { EventfoldError } from "../errors.ts";
import type { EventDraft, EventStore, StoredEvent, StreamName } from "../event-store/event-store.ts";
import { draftOf, type InjectedEvent } from "./inject-event.ts";

/** Most differences that an error names. */
const SHOWN = 3;

export interface CompactOptions<
  State = unknown,
  Event extends { readonly type: string } = { readonly type: string; readonly data?: unknown },
> extends Omit<CommandContext, "idempotencyKey"> {
  /**
   * Returns the events that replace those so far. They must fold to the same state. `compactInto` of the definition if left out. Events
   * that take their time, actor or id from elsewhere carry them as injected events do; otherwise they have those of the compaction.
   */
  readonly into?: (state: State) => readonly InjectedEvent<Event>[];
  /**
   * Forgets the ids of the replaced events. They take about 40 bytes each, and serve only to refuse an injected event that the instance
   * had before. Default: false.
   */
  readonly forgetEventIds?: boolean;
}

export interface CompactResult {
  /** False when the instance had no events, or none since it was last compacted: then nothing was written. */
  readonly compacted: boolean;
  /** How many events were replaced. */
  readonly replaced: number;
  /** Version of the instance afterwards. */
  readonly version: number;
  /** Position of the instance's last event afterwards. */
  readonly position: number;
}

/** What the stream of an instance has. */
interface Books {
  readonly state: unknown;
  readonly version: number;
  /** Events that a compaction would replace. */
  readonly events: number;
  /** Whether no event came since the last compaction. */
  readonly isClosed: boolean;
  readonly keys: readonly string[];
  readonly ids: readonly string[];
}

/** Replaces the events of an instance by others that fold to the same state. */
export function compactInstance(
  lessor: Lessor,
  store: EventStore,
  stream: StreamName,
  model: AggregateModel,
  options: CompactOptions,
  environment: Environment,
): Promise<CompactResult> {
  const { into = model.compactInto, forgetEventIds, ...context } = options;
  checkOptions(stream, into, forgetEventIds);
  checkContext(context);
  return withLeases(lessor, store, [stream], async (leases): Promise<Proposal<CompactResult>> => {
    const lease = leases.of(stream);
    const { version, position } = lease.outcome;
    const unchanged: CompactResult = { compacted: false, replaced: 0, version, position };
    if (!lease.exists) return { kind: "verdict", answer: () => unchanged };
    const books = await readBooks(store, stream, model, environment);
    // Another process has committed: the store says so.
    if (books.version !== version)
      return {
        kind: "commit",
        commit: { appends: [{ stream, expectedVersion: version, events: [] }] },
        written: () => unchanged,
      };
    if (books.isClosed) return { kind: "verdict", answer: () => unchanged };
    const drafts = draftsOf(into(books.state), context, model, environment);
    checkSame(stream, books, drafts, model, environment);
    const data: CompactionData = {
      version: version + 1,
      events: drafts.length,
      ...(books.keys.length === 0 ? {} : { keys: books.keys }),
      ...(books.ids.length === 0 || forgetEventIds === true ? {} : { ids: books.ids }),
    };
    const first: EventDraft = {
      type: CUT_TYPES.compacted,
      data: JSON.stringify(data),
      schemaVersion: 0,
      timestamp: environment.now(),
      eventId: environment.nextId(),
      actor: context.actor,
      meta: metaOf(context),
    };
    return {
      kind: "commit",
      commit: { appends: [{ stream, expectedVersion: version, events: [first, ...drafts], cut: "compacted" }] },
      written: (last) => {
        lease.markOutdated();
        return { compacted: true, replaced: books.events, version: version + 1 + drafts.length, position: last };
      },
    };
  });
}

/** Reads the events of an instance, and folds them as a reload does. */
async function readBooks(
  store: EventStore,
  stream: StreamName,
  model: AggregateModel,
  environment: Environment,
): Promise<Books> {
  const keys = new IdempotencyKeys(stream);
  const ids: string[] = [];
  let state = model.initial();
  let version = 0;
  let events = 0;
  let closedAt = 0;
  for await (const batch of store.readStream(stream)) {
    for (const event of batch) {
      state = model.fold(state, event, environment.onUnknownEvent);
      ({ version } = event);
      keys.recordEvent(event);
      const compaction = compactionOf(event.type, event.data);
      if (compaction !== undefined) closedAt = version + compaction.events;
      if (cutOfType(event.type) === undefined) {
        events++;
        if (event.eventId !== undefined) ids.push(event.eventId);
      }
      for (const id of replacedIds(event)) ids.push(id);
    }
  }
  return { state: freeze(state), version, events, isClosed: version === closedAt, keys: [...keys.ofEvents()], ids };
}

function draftsOf(
  given: unknown,
  context: CommandContext,
  model: AggregateModel,
  environment: Environment,
): EventDraft[] {
  if (!Array.isArray(given))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected into to return an array of events at once, found ${given === null ? "null" : typeof given}`,
    );
  return given.map((event: InjectedEvent | null) =>
    draftOf(event === null ? (event as never) : ({ ...context, ...event } as InjectedEvent), model, environment),
  );
}

/** Throws `COMPACTION_DIFFERS` unless a reload makes the same state of the events. */
function checkSame(
  stream: StreamName,
  { state, version }: Books,
  drafts: readonly EventDraft[],
  model: AggregateModel,
  environment: Environment,
): void {
  let folded = model.initial();
  for (const [index, draft] of drafts.entries())
    folded = model.fold(folded, storedAs(stream, draft, version + 2 + index), environment.onUnknownEvent);
  freeze(folded);
  model.checkState(folded, stream.id);
  const changes = changesOf(state, folded);
  if (changes.length === 0) return;
  const { type, id } = stream;
  const more = changes.length > SHOWN ? `, and ${changes.length - SHOWN} more` : "";
  throw new EventfoldError(
    "COMPACTION_DIFFERS",
    `compacting ${type} ${JSON.stringify(id)}: expected the events of into to fold to the state at version ${version}, found ${changes.slice(0, SHOWN).map(shown).join(", ")}${more}; nothing was written`,
  );
}

function shown({ path, before, after }: ValueChange): string {
  return `state${path === "" ? "" : `.${path}`} ${text(after)} in place of ${text(before)}`;
}

function text(value: unknown): string {
  const full = JSON.stringify(value) ?? String(value);
  return full.length > 80 ? `${full.slice(0, 80)}…` : full;
}

/** A draft as a reader gets it from the store. */
function storedAs(stream: StreamName, draft: EventDraft, version: number): StoredEvent {
  const { type, data, schemaVersion, timestamp, eventId, actor, meta } = draft;
  const copy = meta === undefined ? undefined : (JSON.parse(JSON.stringify(meta)) as StoredEvent["meta"]);
  const fields = { type, data: JSON.parse(data) as unknown, schemaVersion, timestamp, eventId, actor, meta: copy };
  return { stream, version, position: 0, ...fields };
}

function checkOptions(
  { type }: StreamName,
  into: unknown,
  forgetEventIds: unknown,
): asserts into is (state: unknown) => unknown {
  if (typeof into !== "function")
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `compact expected a function into, or compactInto in the definition of ${type}, found ${into === undefined ? "neither" : typeof into}`,
    );
  if (forgetEventIds !== undefined && typeof forgetEventIds !== "boolean")
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `compact expected forgetEventIds to be true or false, found ${typeof forgetEventIds}`,
    );
}
