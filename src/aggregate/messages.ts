import type { DataOf, InputOf, Payloads } from "./payload.ts";

/** A command, event or rejection: plain data. */
export type Message<Type extends string = string, Data = unknown> = [Data] extends [undefined]
  ? { readonly type: Type; readonly data?: undefined }
  : { readonly type: Type; readonly data: Data };

/** The union of all messages of a contract's section. */
export type Messages<P extends Payloads> = { [K in keyof P & string]: Message<K, DataOf<P[K]>> }[keyof P & string];

/** The same as they are before their schemas have seen them: what users give. */
export type InputMessages<P extends Payloads> = { [K in keyof P & string]: Message<K, InputOf<P[K]>> }[keyof P &
  string];

type Arguments<Data> = [Data] extends [undefined] ? [] : [data: Data];

/** A constructor for each message. */
export type Constructors<P extends Payloads> = {
  readonly [K in keyof P & string]: (...data: Arguments<DataOf<P[K]>>) => Message<K, DataOf<P[K]>>;
};

/** A constructor for each message, from what its schema takes. */
export type InputConstructors<P extends Payloads> = {
  readonly [K in keyof P & string]: (...data: Arguments<InputOf<P[K]>>) => Message<K, InputOf<P[K]>>;
};

/** Who sends a command, why, and once only. */
export interface CommandContext {
  readonly actor?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly causationId?: string | undefined;
  readonly sourceDevice?: string | undefined;
  /** Plain JSON, stored with each event. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** A second command with the same key on the same instance returns the first one's result and writes nothing. */
  readonly idempotencyKey?: string | undefined;
}

/** A command with its address, as plain JSON. */
export interface CommandEnvelope<
  Type extends string = string,
  Command = { readonly type: string; readonly data?: unknown },
> {
  readonly aggregate: Type;
  readonly id: string;
  readonly command: Command;
  readonly context?: CommandContext | undefined;
}

export type EnvelopeConstructors<Type extends string, P extends Payloads> = {
  readonly [K in keyof P & string]: (
    ...data: Arguments<InputOf<P[K]>>
  ) => CommandEnvelope<Type, Message<K, InputOf<P[K]>>>;
};

/** What the store adds to an event. */
export interface EventRecord<Type extends string = string> {
  /** The aggregate's type. */
  readonly aggregate: Type;
  /** The instance's id. */
  readonly id: string;
  readonly eventId: string;
  /** 1, 2, 3 … within the instance. */
  readonly version: number;
  /** 1, 2, 3 … over the whole store. */
  readonly position: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly actor?: string;
  readonly correlationId?: string;
  readonly causationId?: string;
  readonly sourceDevice?: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** An event that the caller gives, perhaps with its time, actor and id. The store fills in missing fields. */
export type GivenEvent<Event = { readonly type: string; readonly data?: unknown }> = Event &
  Partial<
    Pick<EventRecord, "eventId" | "timestamp" | "actor" | "correlationId" | "causationId" | "sourceDevice" | "metadata">
  >;

/** An event as it is in the store. */
export type RecordedEvent<
  Type extends string = string,
  Event = { readonly type: string; readonly data?: unknown },
> = Event extends unknown ? Event & EventRecord<Type> : never;

/** What readers of a store get when an instance was deleted. */
export interface Deletion {
  readonly type: "$deleted";
  readonly data: {
    /** The version of this event. */
    readonly version: number;
    /** Whether the instance can have no new life. */
    readonly final: boolean;
    readonly reason?: string;
  };
}

const REJECTION: unique symbol = Symbol.for("eventfold-es.rejection") as never;

/** What `reject.X(…)` gives and `handle` returns to say no. */
export interface Rejection<R> {
  readonly [REJECTION]: R;
}

/** A constructor for each rejection. */
export type Rejections<P extends Payloads> = {
  readonly [K in keyof P & string]: (...data: Arguments<DataOf<P[K]>>) => Rejection<Message<K, DataOf<P[K]>>>;
};

export function rejectionOf(value: object): { readonly type: string; readonly data?: unknown } | undefined {
  return (value as Partial<Rejection<{ readonly type: string }>>)[REJECTION];
}

type AnyConstructors = Record<string, (data?: unknown) => { readonly type: string; readonly data?: unknown }>;

/** Constructors for the messages of a section, on an object without a prototype. `onMade` sees each message. */
export function constructorsFor(payloads: Payloads, onMade: (message: object) => void = () => {}): AnyConstructors {
  const constructors = Object.create(null) as AnyConstructors;
  for (const type of Object.keys(payloads))
    constructors[type] = (data) => {
      const message = data === undefined ? { type } : { type, data };
      onMade(message);
      return message;
    };
  return Object.freeze(constructors);
}

/** Rejection constructors for the messages of a section. `onMade` sees each rejection. */
export function rejectionsFor(
  payloads: Payloads,
  onMade: (rejection: object) => void,
): Record<string, (data?: unknown) => Rejection<unknown>> {
  const rejections = Object.create(null) as Record<string, (data?: unknown) => Rejection<unknown>>;
  for (const [type, construct] of Object.entries(constructorsFor(payloads)))
    rejections[type] = (data) => {
      const rejection = { [REJECTION]: construct(data) };
      onMade(rejection);
      return rejection;
    };
  return Object.freeze(rejections);
}
