import { EventfoldError, InvalidPayloadError } from "../errors.ts";
import type { EventDraft, StoredEvent } from "../event-store/event-store.ts";
import { stringifyPayload } from "../json.ts";
import type { AnyAggregate, AppliedEvent } from "./aggregate.ts";
import { codeFingerprint, type CodeVersion, type NamedFunction } from "../fingerprint.ts";
import { metaOf } from "./context.ts";
import { appliedEvent, EventReader, recordedEvent } from "./event-reader.ts";
import { type CommandContext, type RecordedEvent, rejectionOf, rejectionsFor, constructorsFor } from "./messages.ts";
import type { BegunSample } from "./fold-samples.ts";
import { MadeMessages } from "./made-messages.ts";
import { initialOf } from "./initial-state.ts";
import { isTypeOnly, type Payload, type Payloads } from "./payload.ts";
import { takesThird } from "./source-inspection.ts";
import { ignoreFailure, isPromise } from "../realm.ts";

/** What to do with an event whose type the aggregate does not declare. */
export type UnknownEventPolicy = "skip" | "error" | ((event: RecordedEvent) => "skip" | "error" | undefined | void);

/** Time and ids, injected once for a whole store. */
export interface Environment {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly nextId: () => string;
  readonly onUnknownEvent: UnknownEventPolicy;
  readonly sampler?: FoldSampler;
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
  | { readonly kind: "rejection"; readonly rejection: { readonly type: string; readonly data?: unknown } };

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
  /** Changes when the code that folds states changes. */
  readonly fingerprint: string;
  readonly #initial: unknown;
  readonly #commands: ReadonlyMap<string, CommandModel>;
  readonly #events: ReadonlyMap<string, EventModel>;
  readonly #reader: EventReader;
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
    };
    const behaviour = aggregate.behaviour as
      | {
          readonly handle: Record<string, (args: object) => unknown>;
          readonly apply: Record<string, EventModel["apply"]>;
          readonly snapshotEvery?: number;
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
    this.#initial = typeof contract.initial === "function" ? contract.initial : freeze(initialOf(contract.initial));
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
    this.#emit = constructorsFor(contract.events, this.#made.record);
    this.#reject = rejectionsFor(contract.rejections ?? {}, this.#made.record);
    const folds = [...this.#events].map(([type, { apply }]): NamedFunction => [type, apply]);
    this.fingerprint = codeFingerprint(behaviour.version, this.initial(), [...folds, ...this.#reader.functions]);
  }

  initial(): unknown {
    const initial = this.#initial;
    return typeof initial === "function" ? freeze(initialOf(initial)) : initial;
  }

  /** Checks a command as it comes in: known type, valid payload. Gives it with the payload that `handle` will see. */
  validateCommand(command: unknown, context: CommandContext): Command | Promise<Command> {
    if (typeof command !== "object" || command === null || !("type" in command) || typeof command.type !== "string") {
      throw new EventfoldError("INVALID_COMMAND", `a command for ${this.type} is an object { type, data? }`);
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
    const complete = (checked: unknown): Command => ({ type, data: checked, context });
    const valid = validate(model.payload, copy, model.what);
    return isPromise(valid) ? Promise.resolve(valid).then(complete) : complete(valid);
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
    if (rejection !== undefined) return { kind: "rejection", rejection };
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
      if (emitted.length === 1) return { kind: "events", drafts: [made.draft], events: [made.event], state };
      drafts.push(made.draft);
      events.push(made.event);
    }
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
    const { text, data } = payloadOf(model, "data" in event ? event.data : undefined);
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

  #badResult(command: string, why: string): EventfoldError {
    return new EventfoldError(
      "INVALID_DEFINITION",
      `handle.${command} of ${this.type} ${why}; it returns an event, an array of events, nothing, or reject.X(…)`,
    );
  }

  /** Folds one stored event; the result is not frozen, `freeze` the last one. */
  fold(state: unknown, event: StoredEvent, policy: UnknownEventPolicy): unknown {
    const model = this.#events.get(event.type);
    if (model === undefined) {
      const verdict = typeof policy === "function" ? policy(recordedEvent(event, event.data)) : policy;
      if (verdict === "error")
        throw new EventfoldError(
          "UNKNOWN_EVENT",
          `${this.type} ${JSON.stringify(event.stream.id)} has an event ${JSON.stringify(event.type)} at version ${event.version}, which the contract does not declare`,
        );
      return state;
    }
    const data = this.#reader.dataOf(event);
    model.count++;
    const next = model.wantsRecord ? model.apply(state, data, recordedEvent(event, data)) : model.apply(state, data);
    return this.#applied(event.type, state, next);
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

  /** The types of events, with the number of events folded so far. */
  get folds(): ReadonlyMap<string, { readonly count: number }> {
    return this.#events;
  }

  /** Checks the payload of an event that was made elsewhere. Throws `UNKNOWN_EVENT` for a type that is not declared. */
  async validateEvent(type: string, data: unknown): Promise<unknown> {
    const model = this.#events.get(type);
    if (model === undefined) {
      throw new EventfoldError(
        "UNKNOWN_EVENT",
        `${this.type} has no event ${JSON.stringify(type)}; it knows ${[...this.#events.keys()].join(", ")}`,
      );
    }
    const { payload, what } = model;
    const text = stringifyPayload(data, what);
    const copy = text === "null" ? undefined : (JSON.parse(text) as unknown);
    return isTypeOnly(payload) ? copy : await validate(payload, copy, what);
  }

  /** How many shapes of an event's payload came before the newest one; 0 for an event that is not declared. */
  schemaVersion(type: string): number {
    return this.#reader.schemaVersion(type);
  }

  /** A stored event as users see it: its payload in the newest shape. */
  recorded(event: StoredEvent): RecordedEvent {
    return this.#reader.recorded(event);
  }
}

/** Freezes a value deeply; what is frozen already is taken to be so deeply. */
export function freeze<T>(value: T): T {
  if (!isFreezable(value)) return value;
  Object.freeze(value);
  // No recursion: a state may be nested deeper than the stack is.
  const waiting: object[] = [value];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const key of Object.keys(next)) {
      const item = (next as Record<string, unknown>)[key];
      if (isFreezable(item)) waiting.push(Object.freeze(item));
    }
  }
  return value;
}

function isFreezable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value);
}

/** Stands in a new event's record until it has a position. */
const UNKNOWN_POSITION = 0;

/** An event's payload as it is written, and as it will be read back: the state in memory is the one that the file will give. */
function payloadOf(model: EventModel, given: unknown): { readonly text: string; readonly data: unknown } {
  const valid = isTypeOnly(model.payload) ? given : validate(model.payload, given, model.what);
  if (isPromise(valid)) {
    ignoreFailure(valid);
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${model.what} has an asynchronous schema; an event is checked while it is decided`,
    );
  }
  // A value of its own, also if `handle` passes the command's on: that belongs to `handle`, which may be asked again, and this one to
  // the states and results that keep it.
  const text = stringifyPayload(valid, model.what);
  return { text, data: text === "null" ? undefined : JSON.parse(text) };
}

function validate(payload: Payload, value: unknown, what: string): unknown | Promise<unknown> {
  const result = payload["~standard"].validate(value);
  // A promise of another library may have a `then` that returns nothing.
  return isPromise(result) ? Promise.resolve(result).then((r) => checked(r, what)) : checked(result, what);
}

function checked(result: Awaited<ReturnType<Payload["~standard"]["validate"]>>, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map(({ message, path = [] }) => ({ message, path: path.map(keyOf) }));
  const shown = issues.map(({ message, path }) =>
    path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`,
  );
  throw new InvalidPayloadError(`${what}: ${shown.join("; ")}`, issues);
}

/** A step of a path as Standard Schema allows it: a key, or an object with one. */
function keyOf(part: unknown): PropertyKey {
  return (typeof part === "object" && part !== null && "key" in part ? part.key : part) as PropertyKey;
}

function functionOf<F>(functions: Readonly<Record<string, F>>, name: string): F {
  const found = functions[name];
  if (found === undefined) throw new EventfoldError("INVALID_DEFINITION", `no function for ${name}`);
  return found;
}
