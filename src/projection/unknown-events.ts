import { type UnknownEventPolicy, verdictOn } from "../aggregate/unknown-event-policy.ts";
import { EventfoldError } from "../errors.ts";
import { cutOfType } from "../cut.ts";
import type { Checkpoint, EventStore, EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { unknownEvents } from "../tracing/tracing.ts";
import { eventDigest } from "../event-store/event-digest.ts";

/** The events of one type that an aggregate does not declare. */
export interface UnknownEventStatus {
  readonly aggregate: string;
  readonly type: string;
  readonly count: number;
  /** Position of the first one. */
  readonly position: number;
}

interface Unknown {
  readonly aggregate: string;
  readonly type: string;
  count: number;
  readonly position: number;
  /** The first one, for errors. */
  readonly id: string;
  readonly version: number;
  /** The policy refuses some of them. */
  isRefused: boolean;
}

/** The names of its checkpoint. */
const KIND = "model";
const NAME = "declared";
/** A checkpoint is saved after so many events, and on close. */
const SAVE_AFTER_EVENTS = 10_000;

/** The checkpoint's state. */
interface Kept {
  readonly declared: readonly { readonly aggregate: string; readonly types: readonly string[] }[];
  readonly unknown: readonly Omit<Unknown, "isRefused">[];
}

/**
 * The events of registered aggregates whose types these do not declare. Readers of the log skip lines by type, so they cannot
 * notice them. This looks through each event once for all readers, and through none that this process has written: those are declared.
 */
export class UnknownEvents {
  readonly #events: EventStore;
  readonly #policy: UnknownEventPolicy;
  /** By type of aggregate: the types of events that it declares or once had. */
  readonly #declared = new Map<string, ReadonlySet<string>>();
  readonly #unknown = new Map<string, Unknown>();
  /** All events up to here are looked through; `undefined` before the checkpoint is loaded. */
  #position: number | undefined;
  /** The events between these positions are of this process: those after the first, up to the second. */
  #ownFrom = 0;
  #ownTo = 0;
  #savedPosition = 0;
  /** The checkpoint also helps programs that register other aggregates. */
  #isShared = false;
  #scanning: Promise<void> | undefined;

  constructor(events: EventStore, policy: UnknownEventPolicy) {
    this.#events = events;
    this.#policy = policy;
  }

  /** An aggregate is registered. */
  declare(aggregate: string, types: ReadonlySet<string>): void {
    if (this.#declared.has(aggregate)) return;
    this.#declared.set(aggregate, types);
    this.#position = undefined;
    this.#unknown.clear();
  }

  /** This process has written events, the last of them at a position. */
  passOwn(count: number, position: number): void {
    const before = position - count;
    if (this.#position === before) this.#position = position;
    if (this.#ownTo !== before) this.#ownFrom = before;
    this.#ownTo = position;
  }

  /**
   * Throws `UNKNOWN_EVENT` if the store has events up to a position that some of these aggregates do not declare, and the policy
   * refuses them. Returns nothing if that is known without reading.
   */
  check(aggregates: EventTypes, head: number): Promise<void> | undefined {
    if (this.#position === undefined || this.#position < head)
      return this.#scanTo(head).then(() => this.#throwRefused(aggregates));
    this.#throwRefused(aggregates);
    return undefined;
  }

  /** The error for an instance that has met an event that its aggregate does not declare. */
  async errorOf(aggregate: string, found: unknown): Promise<unknown> {
    await this.#scanTo(await this.#events.head());
    return (
      this.#errorFor([...this.#unknown.values()].filter((each) => each.isRefused && each.aggregate === aggregate)) ??
      found
    );
  }

  /** All of them, whatever the policy says. */
  async all(): Promise<UnknownEventStatus[]> {
    await this.#scanTo(await this.#events.head());
    return [...this.#unknown.values()].map(({ aggregate, type, count, position }) => ({
      aggregate,
      type,
      count,
      position,
    }));
  }

  async close(): Promise<void> {
    await this.#scanning?.catch(() => {});
    try {
      if (this.#position === undefined && this.#ownTo > 0) this.#passOwnEvents(await this.#load());
      const isNew = (this.#position ?? 0) > this.#savedPosition + (this.#isShared ? SAVE_AFTER_EVENTS : 0);
      if (isNew) await this.#save();
    } catch {
      // Only a cache: without it the next opening looks through more events.
    }
  }

  /** Passes over the events of this process, if all before them are looked through. False if there are none. */
  #passOwnEvents(position: number): boolean {
    if (this.#ownFrom > position || this.#ownTo <= position) return false;
    this.#position = this.#ownTo;
    return true;
  }

  #throwRefused(aggregates: EventTypes): void {
    if (this.#unknown.size === 0) return;
    const refused = [...this.#unknown.values()].filter(
      ({ aggregate, isRefused }) => isRefused && aggregates.has(aggregate),
    );
    const error = this.#errorFor(refused);
    if (error !== undefined) throw error;
  }

  #errorFor(unknown: readonly Unknown[]): EventfoldError | undefined {
    const [first] = unknown;
    if (first === undefined) return undefined;
    const found = unknown.map(
      ({ aggregate, type, count, position, id, version }) =>
        `${count} ${count === 1 ? "event" : "events"} ${JSON.stringify(type)} of ${aggregate}, the first at position ${position} (${aggregate} ${JSON.stringify(id)}, version ${version})`,
    );
    const old = JSON.stringify(first.type);
    return new EventfoldError(
      "UNKNOWN_EVENT",
      `expected only events that the contracts declare, found ${found.join("; ")}. Declare the type, or say in the contract's history what became of it: renamed(${old}, "<new name>"), dropped(${old}) or replaced(${old}, …). To pass over such events, open the store with onUnknownEvent("skip")`,
    );
  }

  /** One look after the other; each begins where the one before it has ended. */
  async #scanTo(head: number): Promise<void> {
    while (this.#position === undefined || this.#position < head) {
      this.#scanning ??= this.#scan(head).finally(() => (this.#scanning = undefined));
      await this.#scanning;
    }
  }

  async #scan(head: number): Promise<void> {
    const declared = new Map(this.#declared);
    const from = this.#position ?? (await this.#load());
    if (this.#passOwnEvents(from)) return;
    const to = this.#ownFrom > from ? Math.min(head, this.#ownFrom) : head;
    const found = new Map<string, { count: number; position: number }>();
    for await (const batch of this.#events.readAll({ from: from + 1, to, undeclared: declared })) {
      for (const event of batch) {
        if (declared.get(event.stream.type)?.has(event.type) !== false || cutOfType(event.type) !== undefined) continue;
        const key = this.#add(event);
        const counted = found.get(key) ?? { count: 0, position: event.position };
        found.set(key, { ...counted, count: counted.count + 1 });
      }
    }
    // An aggregate that was registered meanwhile has events among those.
    if (declared.size !== this.#declared.size) return;
    this.#position = Math.max(to, from);
    for (const [key, { count, position }] of found) {
      const { aggregate, type, isRefused } = this.#unknown.get(key) as Unknown;
      unknownEvents.publish(() => ({ aggregate, id: undefined, event: type, count, position, skipped: !isRefused }));
    }
    if (this.#position - this.#savedPosition >= SAVE_AFTER_EVENTS) await this.#save();
  }

  #add(event: StoredEvent): string {
    const { stream, type, position, version } = event;
    const isRefused = verdictOn(this.#policy, event) === "error";
    const key = `${stream.type}/${type}`;
    const known = this.#unknown.get(key);
    if (known === undefined)
      this.#unknown.set(key, { aggregate: stream.type, type, count: 1, position, id: stream.id, version, isRefused });
    else {
      known.count++;
      known.isRefused ||= isRefused;
    }
    return key;
  }

  /** Takes over what an earlier process has found. Returns the position up to which that holds. */
  async #load(): Promise<number> {
    this.#unknown.clear();
    this.#savedPosition = 0;
    this.#isShared = false;
    const checkpoint = await this.#events.loadCheckpoint(KIND, NAME);
    if (checkpoint === undefined || !(await this.#isOfThisHistory(checkpoint))) return 0;
    const { declared, unknown } = checkpoint.state as Kept;
    // A function decides about each event anew.
    if (typeof this.#policy === "function" && unknown.length > 0) return 0;
    const before = new Map(declared.map(({ aggregate, types }) => [aggregate, types]));
    this.#isShared = declared.some(({ aggregate }) => !this.#declared.has(aggregate));
    for (const [aggregate, types] of this.#declared) {
      const known = before.get(aggregate);
      // Events of an aggregate, or of a type, that is not declared any more may be among those that were passed.
      if (known?.every((type) => types.has(type)) !== true) return 0;
    }
    for (const each of unknown) {
      const types = this.#declared.get(each.aggregate);
      if (types === undefined || types.has(each.type)) continue;
      this.#unknown.set(`${each.aggregate}/${each.type}`, { ...each, isRefused: this.#policy === "error" });
    }
    this.#savedPosition = checkpoint.position;
    return checkpoint.position;
  }

  /**
   * Whether the store still has the event that the checkpoint ends with. If it ends with the head, each process that could have
   * written other events has also replaced the checkpoint, so nothing is read.
   */
  async #isOfThisHistory({ position, last }: Checkpoint): Promise<boolean> {
    const head = await this.#events.head();
    if (position >= head) return position === head;
    return last !== undefined && (await this.#digestAt(position)) === last.event;
  }

  async #digestAt(position: number): Promise<string | undefined> {
    for await (const [event] of this.#events.readAll({ from: position, to: position }))
      if (event?.position === position) return eventDigest(event);
    return undefined;
  }

  async #save(): Promise<void> {
    const position = this.#position ?? 0;
    if (this.#declared.size === 0) return;
    const state: Kept = {
      declared: [...this.#declared].map(([aggregate, types]) => ({ aggregate, types: [...types] })),
      unknown: [...this.#unknown.values()].map(({ aggregate, type, count, position: first, id, version }) => ({
        aggregate,
        type,
        count,
        position: first,
        id,
        version,
      })),
    };
    try {
      const event = await this.#digestAt(position);
      if (event === undefined) return;
      await this.#events.saveCheckpoint(KIND, NAME, { state, position, last: { since: position - 1, event } });
      this.#savedPosition = position;
    } catch {
      // Only a cache: without it the next opening looks through more events.
    }
  }
}
