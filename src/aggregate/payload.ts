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
  | ReadonlyMap<never, unknown>
  | ReadonlySet<never>
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

type Checked<T> = [NotJson<T>] extends [never] ? [] : [error: `JSON cannot hold ${NotJson<T>}`];

/** A payload declared by its type, with the steps that turn older shapes of it into the newest. */
export interface TypedPayload<T> extends StandardSchema<T> {
  /** How old payloads become new ones; events remember how many steps they have been through. */
  readonly upcasters: readonly ((data: never) => unknown)[];
  /** Declares the next shape. Events on disk keep theirs; readers see the newest one. */
  to<Next>(upcast: (data: T) => Next, ...notJson: Checked<Next>): TypedPayload<Next>;
}

/** Declares a message without a payload. */
export function data(): StandardSchema<undefined>;
/** Declares a payload by its type. Nothing is checked at run time but that it is JSON. */
export function data<T>(...notJson: Checked<T>): TypedPayload<T>;
// oxlint-disable-next-line no-explicit-any -- the overloads are what callers see
export function data(): any {
  return typedPayload([]);
}

function typedPayload(upcasters: readonly ((data: never) => unknown)[]): unknown {
  return {
    "~standard": { version: 1, vendor: "eventfold-es", validate: (value: unknown) => ({ value }) },
    upcasters,
    to: (upcast: (data: never) => unknown) => typedPayload([...upcasters, upcast]),
  };
}

/** The upcasting steps of a declaration; none for a schema of another library. */
export function upcastersOf(payload: Payload): readonly ((data: never) => unknown)[] {
  return "upcasters" in payload && Array.isArray(payload.upcasters)
    ? (payload.upcasters as ((data: never) => unknown)[])
    : [];
}

/** Whether a declaration checks nothing, so that validating can be left out. */
export function isTypeOnly(payload: Payload): boolean {
  return payload["~standard"].vendor === "eventfold-es";
}
