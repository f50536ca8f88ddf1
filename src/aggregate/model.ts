import { EventfoldError, InvalidCommandError, InvalidStateError } from "../errors.ts";
import { cutOfType } from "../cut.ts";
import type { EventDraft, StoredEvent, StreamName } from "../event-store/event-store.ts";
import { stringifyPayload } from "../json.ts";
import type { AnyAggregate, AppliedEvent } from "./aggregate.ts";
import { codeFingerprint, type CodeVersion, type NamedFunction } from "../fingerprint.ts";
import { metaOf } from "./context.ts";
import { appliedEvent, EventReader, recordedEvent, recordedPart } from "./event-reader.ts";
import { type CommandContext, constructorsFor, rejectionOf, rejectionsFor } from "./messages.ts";
import type { BegunSample } from "./fold-samples.ts";
import { freeze } from "./freeze.ts";
import { MadeMessages } from "./made-messages.ts";
import { functionOf } from "./handler-map.ts";
import { initialOf } from "./initial-state.ts";
import { isTypeOnly, type Payload, type Payloads } from "./payload.ts";
import { describedSchema } from "./schema-text.ts";
import { takesThird } from "./source-inspection.ts";
import { meetUnknown, type UnknownEventPolicy } from "./unknown-event-policy.ts";
import { parsed, shownIssues, validated } from "./validate.ts";
import { writtenPayload } from "./written-payload.ts";
import { ignoreFailure, isPromise } from "../realm.ts";

/** Time and ids, injected once for a whole store. */
export interface Environment {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly nextId: () => string;
  readonly onUnknownEvent: UnknownEventPolicy;
  /** What the store knows of events that no contract declares. */
  readonly unknownEvents?: UnknownEventLog;
  readonly sampler?: FoldSampler;
  /** An instance whose definition has `compactAfter` has reached a version. */
  readonly onGrown?: (stream: StreamName, version: number) => void;
  readonly checkPersonal?: (aggregate: AnyAggregate) => void;
}

export interface UnknownEventLog {
  /** An aggregate is registered. Its events may be stored with these types. */
  declare(aggregate: string, types: ReadonlySet<string>): void;
  /** This process has written events, the last of them at a position. */
  passOwn(count: number, position: number): void;
  /** A better error for an instance that has failed with `found`. */
  errorOf(aggregate: string, found: unknown): Promise<unknown>;
}

/** Takes samples of how new events are folded. */
export interface FoldSampler {
  /** Whether the next event of this type is to be sampled. Called once for each event. */
  isDue(type: string): boolean;
  begin(state: unknown, event: StoredEvent): BegunSample | undefined;
  complete(begun: BegunSample, state: unknown): void;
}

/** A decision: what a command leads to. */
export type Decision =
  | {
      readonly kind: "events";
      readonly drafts: readonly EventDraft[];
      readonly events: readonly AppliedEvent<string, unknown>[];
      readonly state: unknown;
    }
  | { readonly kind: "rejection"; readonly rejection: SomeMessage };

/** Where a decision starts from. */
export interface Situation {
  readonly id: string;
  readonly state: unknown;
  readonly version: number;
}

/** A validated command. */
export interface Command {
  readonly type: string;
  readonly data: unknown;
  readonly context: CommandContext;
}

interface SomeMessage {
  readonly type: string;
  readonly data?: unknown;
}

interface EventModel {
  readonly apply: (state: unknown, data: unknown, event?: unknown) => unknown;
  /** `apply` looks at its third parameter, so the whole line has to be parsed. */
  readonly wantsRecord: boolean;
  readonly payload: Payload;
  /** For errors. */
  readonly what: string;
  /** How many shapes of its payload came before the newest. */
  readonly schemaVersion: number;
  /** How many events of this type were folded. */
  count: number;
}

interface CommandModel {
  readonly handle: (args: object) => unknown;
  readonly payload: Payload;
  readonly what: string;
}

const models = new WeakMap<object, AggregateModel>();

/** An aggregate's definition in the form that the runtime uses. */
export class AggregateModel {
  readonly type: string;
  readonly snapshotEvery: number;
  readonly compactAfter: number | undefined;
  readonly compactInto: ((state: unknown) => unknown) | undefined;
  /** Changes when the code that folds states changes. */
  readonly fingerprint: string;
  readonly #initial: unknown;
  readonly #commands: ReadonlyMap<string, CommandModel>;
  readonly #events: ReadonlyMap<string, EventModel>;
  /** The types that the contract had before, and how many events of each were folded. */
  readonly #past: ReadonlyMap<string, { count: number }>;
  readonly #reader: EventReader;
  readonly #rejections: Payloads;
  readonly #stateSchema: Payload | undefined;
  readonly #emit: object;
  readonly #reject: object;
  readonly #made = new MadeMessages();

  static of(aggregate: AnyAggregate): AggregateModel {
    let model = models.get(aggregate);
    if (model === undefined) models.set(aggregate, (model = new AggregateModel(aggregate)));
    return model;
  }

  private constructor(aggregate: AnyAggregate) {
    const contract = aggregate.contract as {
      readonly initial: unknown;
      readonly events: Payloads;
      readonly commands: Payloads;
      readonly rejections?: Payloads;
      readonly state?: Payload;
    };
    const behaviour = aggregate.behaviour as
      | {
          readonly handle: Record<string, (args: object) => unknown>;
          readonly apply: Record<string, EventModel["apply"]>;
          readonly snapshotEvery?: number;
          readonly compactAfter?: number;
          readonly compactInto?: AggregateModel["compactInto"];
          readonly version?: CodeVersion;
        }
      | undefined;
    if (behaviour === undefined)
      throw new EventfoldError(
        "INVALID_DEFINITION",
        `aggregate ${aggregate.type} has a contract but no behaviour; call .define({ handle, apply })`,
      );
    this.type = aggregate.type;
    this.snapshotEvery = behaviour.snapshotEvery ?? 100;
    this.compactAfter = behaviour.compactAfter;
    this.compactInto = behaviour.compactInto;
    this.#initial = typeof contract.initial === "function" ? contract.initial : freeze(initialOf(contract.initial));
    this.#stateSchema = contract.state === undefined || isTypeOnly(contract.state) ? undefined : contract.state;
    this.#reader = new EventReader(aggregate);
    this.#commands = new Map(
      Object.entries(contract.commands).map(([type, payload]) => [
        type,
        { handle: functionOf(behaviour.handle, type), payload, what: `command ${type} of ${aggregate.type}` },
      ]),
    );
    this.#events = new Map(
      Object.entries(contract.events).map(([type, payload]) => {
        const apply = functionOf(behaviour.apply, type);
        const what = `event ${type} of ${aggregate.type}`;
        const schemaVersion = this.#reader.schemaVersion(type);
        return [type, { apply, wantsRecord: takesThird(apply), payload, what, schemaVersion, count: 0 }];
      }),
    );
    const past = [...this.#reader.storedTypes].filter((type) => !this.#events.has(type));
    this.#past = new Map(past.map((type) => [type, { count: 0 }]));
    this.#emit = constructorsFor(contract.events, this.#made.record);
    this.#rejections = contract.rejections ?? {};
    this.#reject = rejectionsFor(this.#rejections, this.#made.record);
    const folds = [...this.#events].map(([type, { apply }]): NamedFunction => [type, apply]);
    const schema: NamedFunction[] =
      this.#stateSchema === undefined ? [] : [["schema of the state", describedSchema(this.#stateSchema)]];
    const functions = [...folds, ...schema, ...this.#reader.functions];
    this.fingerprint = codeFingerprint(behaviour.version, this.initial(), functions);
  }

  initial(): unknown {
    const initial = this.#initial;
    return typeof initial === "function" ? freeze(initialOf(initial)) : initial;
  }

  /** Checks a command as it comes in: known type, valid payload. Gives it with the payload that `handle` will see. */
  validateCommand(command: unknown, context: CommandContext): Command {
    if (typeof command !== "object" || command === null || !("type" in command) || typeof command.type !== "string") {
      throw new InvalidCommandError(`a command for ${this.type} is an object { type, data? }`);
    }
    const { type } = command;
    const model = this.#commands.get(type);
    if (model === undefined) {
      throw new EventfoldError(
        "UNKNOWN_COMMAND",
        `${this.type} has no command ${JSON.stringify(type)}; it knows ${[...this.#commands.keys()].join(", ")}`,
      );
    }
    const data = "data" in command ? command.data : undefined;
    // A copy: what the caller does to its object later must not reach a command that waits.
    const copy = data === undefined ? undefined : (JSON.parse(stringifyPayload(data, model.what)) as unknown);
    if (isTypeOnly(model.payload)) return { type, data: copy, context };
    const valid = validated(model.payload, copy, model.what);
    if (valid.issues !== undefined)
      throw new InvalidCommandError(`${model.what}: ${shownIssues(valid.issues)}`, valid.issues);
    return { type, data: valid.value, context };
  }

  /** Decides a command on a state. What `handle` or `apply` throws passes through. */
  decide(situation: Situation, command: Command, environment: Environment): Decision {
    const timestamp = environment.now();
    const { type, data, context } = command;
    const model = this.#commands.get(type);
    if (model === undefined)
      throw new EventfoldError("UNKNOWN_COMMAND", `${this.type} has no command ${JSON.stringify(type)}`);
    const { id, state, version } = situation;
    const { handle } = model;
    const now = new Date(timestamp);
    const call = this.#made.begin();
    let result: unknown;
    let unreturned: string | undefined;
    try {
      result = handle({ state, data, id, version, context, now, emit: this.#emit, reject: this.#reject });
      unreturned = this.#made.unreturned(call, result);
    } finally {
      this.#made.end(call);
    }
    if (isPromise(result)) {
      ignoreFailure(result);
      throw this.#badResult(type, "is asynchronous; a decision is made on the state alone, at once");
    }
    if (unreturned !== undefined) throw this.#badResult(type, `called ${unreturned} and did not return its result`);
    if (result === undefined || result === null) return { kind: "events", drafts: [], events: [], state };
    if (typeof result !== "object") throw this.#badResult(type, `returned a ${typeof result}`);
    const rejection = rejectionOf(result);
    if (rejection !== undefined) return { kind: "rejection", rejection: this.#checkedRejection(rejection) };
    return this.#record(situation, command, Array.isArray(result) ? result : [result], timestamp, environment);
  }

  #record(
    situation: Situation,
    command: Command,
    emitted: readonly unknown[],
    timestamp: number,
    environment: Environment,
  ): Decision {
    const meta = metaOf(command.context);
    const drafts: EventDraft[] = [];
    const events: AppliedEvent<string, unknown>[] = [];
    let { state, version } = situation;
    for (const event of emitted) {
      const before = { id: situation.id, state, version };
      const made = this.#recordOne(before, command, event, timestamp, meta, environment);
      ({ state } = made);
      version++;
      // As nearly always. An array that grows has room for sixteen more, and thousands of these wait while a batch is flushed.
      if (emitted.length === 1) {
        this.checkState(state, situation.id);
        return { kind: "events", drafts: [made.draft], events: [made.event], state };
      }
      drafts.push(made.draft);
      events.push(made.event);
    }
    this.checkState(state, situation.id);
    return { kind: "events", drafts, events, state };
  }

  #recordOne(
    { id, state, version: before }: Situation,
    command: Command,
    event: unknown,
    timestamp: number,
    meta: EventDraft["meta"],
    environment: Environment,
  ): { readonly draft: EventDraft; readonly event: AppliedEvent<string, unknown>; readonly state: unknown } {
    if (typeof event !== "object" || event === null || !("type" in event) || typeof event.type !== "string")
      throw this.#badResult(command.type, "returned something that is not an event");
    const { type } = event;
    const model = this.#events.get(type);
    if (model === undefined)
      throw new EventfoldError(
        "UNKNOWN_EVENT",
        `handle.${command.type} of ${this.type} returned the event ${JSON.stringify(type)}, which the contract does not declare`,
      );
    const { text, data } = writtenPayload(model.payload, "data" in event ? event.data : undefined, model.what);
    const { schemaVersion, wantsRecord } = model;
    model.count++;
    const { actor } = command.context;
    const eventId = environment.nextId();
    // While it is folded, `apply` must not see a position: the event has none yet.
    const position = wantsRecord ? undefined : UNKNOWN_POSITION;
    const applied = appliedEvent(this.type, id, type, data, eventId, before + 1, timestamp, actor, meta, position);
    const draft = { type, data: text, schemaVersion, timestamp, eventId, actor, meta };
    const { sampler } = environment;
    const begun =
      sampler?.isDue(type) === true
        ? sampler.begin(state, { ...draft, stream: { type: this.type, id }, data, version: before + 1, position: 0 })
        : undefined;
    const next = freeze(this.#applied(type, state, model.apply(state, data, wantsRecord ? applied : undefined)));
    if (begun !== undefined) sampler?.complete(begun, next);
    return { draft, event: applied, state: next };
  }

  #checkedRejection(rejection: SomeMessage): SomeMessage {
    const payload = this.#rejections[rejection.type];
    if (payload === undefined || isTypeOnly(payload)) return rejection;
    const data = parsed(payload, rejection.data, `rejection ${rejection.type} of ${this.type}`);
    return { type: rejection.type, data };
  }

  #badResult(command: string, why: string): EventfoldError {
    return new EventfoldError(
      "INVALID_DEFINITION",
      `handle.${command} of ${this.type} ${why}; it returns an event, an array of events, nothing, or reject.X(…)`,
    );
  }

  /** Folds one stored event; the result is not frozen, `freeze` the last one. */
  fold(state: unknown, event: StoredEvent, policy: UnknownEventPolicy): unknown {
    const model = this.#events.get(event.type);
    if (model === undefined) return this.#foldPast(state, event, policy);
    const data = this.#reader.dataOf(event);
    model.count++;
    const next = model.wantsRecord ? model.apply(state, data, recordedEvent(event, data)) : model.apply(state, data);
    return this.#applied(event.type, state, next);
  }

  /** Folds what became of an event whose type the contract does not declare any more. */
  #foldPast(before: unknown, event: StoredEvent, policy: UnknownEventPolicy): unknown {
    const counter = this.#past.get(event.type);
    if (counter === undefined) {
      if (cutOfType(event.type) !== undefined) return this.initial();
      meetUnknown(event, policy);
      return before;
    }
    counter.count++;
    let state = before;
    for (const [index, part] of this.#reader.parts(event).entries()) {
      const { apply, wantsRecord } = this.#events.get(part.type) as EventModel;
      const next = wantsRecord ? apply(state, part.data, recordedPart(event, part, index)) : apply(state, part.data);
      state = this.#applied(part.type, state, next);
    }
    return state;
  }

  /** Throws `INVALID_STATE` for a state that the schema of the contract refuses. */
  checkState(state: unknown, id: string): void {
    if (this.#stateSchema === undefined) return;
    const what = `the state of ${this.type} ${JSON.stringify(id)}`;
    const { issues } = validated(this.#stateSchema, state, what);
    if (issues !== undefined) throw new InvalidStateError(`${what}: ${shownIssues(issues)}`, issues);
  }

  /** What `apply` returned, if it can be a state. */
  #applied(type: string, before: unknown, after: unknown): unknown {
    if (after === undefined ? before === undefined : !isPromise(after)) return after;
    if (isPromise(after)) ignoreFailure(after);
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `apply.${type} of ${this.type} returned ${after === undefined ? "nothing" : "a promise"}; expected the next state, at once`,
    );
  }

  /** The types that events are stored with, and the number of events folded so far. */
  get folds(): ReadonlyMap<string, { readonly count: number }> {
    return this.#past.size === 0
      ? this.#events
      : new Map<string, { readonly count: number }>([...this.#events, ...this.#past]);
  }

  /** The text of the payload of an event that was made elsewhere. Throws `UNKNOWN_EVENT` for a type that is not declared. */
  validateEvent(type: string, data: unknown): string {
    const model = this.#events.get(type);
    if (model === undefined) {
      throw new EventfoldError(
        "UNKNOWN_EVENT",
        `${this.type} has no event ${JSON.stringify(type)}; it knows ${[...this.#events.keys()].join(", ")}`,
      );
    }
    return writtenPayload(model.payload, data, model.what).text;
  }

  /** How many shapes of an event's payload came before the newest one; 0 for an event that is not declared. */
  schemaVersion(type: string): number {
    return this.#reader.schemaVersion(type);
  }

  /** Reads stored events as users see them. */
  get reader(): EventReader {
    return this.#reader;
  }
}

/** Stands in a new event's record until it has a position. */
const UNKNOWN_POSITION = 0;
