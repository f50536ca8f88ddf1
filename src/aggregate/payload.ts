import type { CompileError } from "../compile-error.ts";
import { EventfoldError } from "../errors.ts";
import { isAsynchronous } from "./asynchronous-schema.ts";
import {
  type PersonalFields,
  personalFields,
  type PersonalPlaceholders,
  type PersonalSubject,
} from "./personal-fields.ts";

/**
 * Payload declarations: a type alone (`data<T>()`), a type with its history (`.to`), or a schema of any
 * library that follows Standard Schema (https://standardschema.dev).
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => ValidationResult<Output> | Promise<ValidationResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export type ValidationResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] };

// oxlint-disable-next-line no-explicit-any -- any schema fits, whatever it validates
export type Payload = StandardSchema<any, any>;
export type Payloads = { readonly [type: string]: Payload };

/** The type that a payload declaration stands for: what handlers see. */
export type DataOf<P> = P extends { readonly "~standard": { readonly types?: infer T } }
  ? NonNullable<T> extends { readonly output: infer Output }
    ? Output
    : never
  : never;

/** What a payload is made from: differs from `DataOf` for a schema with defaults or transformations. */
export type InputOf<P> = P extends { readonly "~standard": { readonly types?: infer T } }
  ? NonNullable<T> extends { readonly input: infer Input }
    ? Input
    : never
  : never;

type NotData =
  | bigint
  | symbol
  | ((...args: never[]) => unknown)
  | Date
  | RegExp
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | WeakKeyed
  | ArrayBufferLike
  | ArrayBufferView
  | PromiseLike<unknown>
  | Error;
type WeakKeyed = WeakMap<WeakKey, unknown> | WeakSet<WeakKey>;
type Primitive = string | number | boolean | null | undefined;

/** `T` with `never` in place of what JSON would change or drop. Made of types that the compiler resolves on demand, so `T` may contain itself. */
type JsonPart<T> = 0 extends 1 & T
  ? T
  : unknown extends T
    ? T
    : T extends Primitive
      ? T
      : T extends NotData
        ? never
        : T extends readonly (infer Item)[]
          ? readonly JsonPart<Item>[]
          : T extends object
            ? { readonly [K in keyof T]: JsonPart<T[K]> }
            : T;

/** The paths at which JSON would change or drop a value of type `T`; `never` if there are none. */
export type NotJson<T> = [T] extends [JsonPart<T>] ? never : [BadPaths<T>] extends [never] ? "data" : BadPaths<T>;

/** Looks a few levels deep, which is enough for a message. */
type BadPaths<T, Path extends string = "data", Depth extends 0[] = []> = 0 extends 1 & T
  ? never
  : unknown extends T
    ? never
    : Depth["length"] extends 6
      ? never
      : T extends Primitive
        ? never
        : T extends NotData
          ? Path
          : T extends readonly (infer Item)[]
            ? BadPaths<Item, `${Path}[]`, [...Depth, 0]>
            : T extends object
              ? {
                  [K in keyof T & (string | number)]-?: BadPaths<T[K], `${Path}.${K}`, [...Depth, 0]>;
                }[keyof T & (string | number)]
              : never;

/** Makes the compiler refuse a call with a type that JSON would change. */
type JsonOnly<T, This> = [NotJson<T>] extends [never] ? This : CompileError<`JSON cannot hold ${NotJson<T>}`>;

/** One shape that a payload has had: its schema, if it has one, and the function that makes it from the shape before it. */
export interface PayloadShape {
  readonly schema: Payload | undefined;
  /** Missing for the first shape. */
  readonly upcast: ((data: never) => unknown) | undefined;
  /** What of it is personal. */
  readonly personal?: readonly PersonalFields[];
}

/** A payload declared by a type or a schema, with the steps that turn older shapes of it into the newest. */
export interface TypedPayload<Input, Output = Input> extends StandardSchema<Input, Output> {
  /** The oldest shape first. Events remember how many steps they have been through. */
  readonly shapes: readonly PayloadShape[];
  /** Declares the next shape by its type. Events on disk keep theirs; readers see the newest one. */
  to<Next>(this: JsonOnly<Next, unknown>, upcast: (data: Output) => Next): TypedPayload<Next>;
  /** Declares the next shape by a schema. `upcast` returns what the schema takes. */
  to<S extends Payload>(schema: S, upcast: (data: Output) => InputOf<S>): TypedPayload<InputOf<S>, DataOf<S>>;
  /**
   * Declares what of this shape is about a person. An event's fields are encrypted with a key of that person, and `store.forget(subject)`
   * destroys the key: from then on, readers get the placeholders. `subject` is the path of the person's id in the payload, or a function
   * of the payload and the instance's id. `fields` has a placeholder for each path: `name`, `address.street`, `contacts[].email`. Call it again for
   * another person. A command is encrypted as a whole where it is kept: in schedules and dead letters. Throws `INVALID_DEFINITION`.
   */
  personal(subject: PersonalSubject<Output>, fields: PersonalPlaceholders<Output>): TypedPayload<Input, Output>;
}

/** Declares a message without a payload. */
export function data(): TypedPayload<undefined>;
/** Declares a payload by a schema, so that steps can follow: `data(V1).to(V2, f)`. Without steps, the schema alone does the same. */
export function data<S extends Payload>(schema: S): TypedPayload<InputOf<S>, DataOf<S>>;
/** Declares a payload by its type. Nothing is checked at run time but that it is JSON. */
export function data<T>(this: JsonOnly<T, void>): TypedPayload<T>;
// oxlint-disable-next-line no-explicit-any -- the overloads are what callers see
export function data(schema?: Payload): any {
  return declared([{ schema: checkedSchema(schema), upcast: undefined, ...personalOf(schema) }]);
}

const NOTHING_TO_CHECK = { version: 1, vendor: "eventfold-es", validate: (value: unknown) => ({ value }) };

function declared(shapes: readonly PayloadShape[]): unknown {
  return {
    "~standard": shapes.at(-1)?.schema?.["~standard"] ?? NOTHING_TO_CHECK,
    shapes,
    to: (...given: readonly unknown[]) => {
      const [schema, upcast] = given.length > 1 ? given : [undefined, given[0]];
      if (typeof upcast !== "function")
        throw new EventfoldError(
          "INVALID_DEFINITION",
          `to(…) expected the function that converts the shape before, after the schema if there is one, found ${typeof upcast}`,
        );
      return declared([
        ...shapes,
        {
          schema: checkedSchema(schema as Payload | undefined),
          upcast: upcast as (data: never) => unknown,
          ...personalOf(schema as Payload | undefined),
        },
      ]);
    },
    personal: (subject: unknown, fields: unknown) => {
      const last = shapes.at(-1) as PayloadShape;
      const before = last.personal ?? [];
      return declared([
        ...shapes.slice(0, -1),
        { ...last, personal: [...before, personalFields(before, subject, fields)] },
      ]);
    },
  };
}

/** What of a payload's newest shape is personal, to be kept when the payload becomes part of another declaration. */
function personalOf(payload: Payload | undefined): Pick<PayloadShape, "personal"> {
  const personal = payload === undefined ? undefined : shapesOf(payload).at(-1)?.personal;
  return personal === undefined ? {} : { personal };
}

/** The schema, unless it checks nothing. Throws `INVALID_DEFINITION` for something that is no schema of a single shape. */
function checkedSchema(schema: Payload | undefined): Payload | undefined {
  if (schema === undefined) return undefined;
  if (!isSchema(schema))
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `expected a schema that follows Standard Schema, with a method validate in "~standard", found ${schema === null ? "null" : typeof schema}`,
    );
  if ("shapes" in schema && shapesOf(schema).length > 1)
    throw new EventfoldError(
      "INVALID_DEFINITION",
      "expected one shape, found a declaration with steps; add them by .to(…)",
    );
  return isTypeOnly(schema) ? undefined : schema;
}

/** Throws `INVALID_DEFINITION` for something that declares no payload, and for an asynchronous schema. */
export function checkPayload(place: string, payload: unknown): void {
  if (!isSchema(payload))
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${place} expected data<…>() or a schema that follows Standard Schema, found ${payload === null ? "null" : typeof payload}`,
    );
  for (const { schema } of shapesOf(payload as Payload)) {
    if (schema !== undefined && isAsynchronous(schema))
      throw new EventfoldError(
        "INVALID_DEFINITION",
        `${place} has an asynchronous schema; expected one that validates at once. Do what takes time before you send a command`,
      );
  }
}

function isSchema(schema: unknown): boolean {
  if ((typeof schema !== "object" && typeof schema !== "function") || schema === null) return false;
  const standard = (schema as Partial<Payload>)["~standard"];
  return typeof standard === "object" && standard !== null && typeof standard.validate === "function";
}

/** All shapes of a declaration, the oldest first. A schema of another library is one shape. */
export function shapesOf(payload: Payload): readonly PayloadShape[] {
  return "shapes" in payload && Array.isArray(payload.shapes)
    ? (payload.shapes as readonly PayloadShape[])
    : [{ schema: isTypeOnly(payload) ? undefined : payload, upcast: undefined }];
}

/** Whether a declaration checks nothing, so that validating can be left out. */
export function isTypeOnly(payload: Payload): boolean {
  return payload["~standard"].vendor === "eventfold-es";
}
