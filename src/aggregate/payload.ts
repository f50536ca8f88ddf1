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

/** The paths at which JSON would change or drop a value of type `T`; `never` if there are none. */
export type NotJson<T, Path extends string = "data"> = 0 extends 1 & T
  ? never
  : unknown extends T
    ? never
    : T extends string | number | boolean | null | undefined
      ? never
      : T extends NotData
        ? Path
        : T extends readonly (infer Item)[]
          ? NotJson<Item, `${Path}[]`>
          : T extends object
            ? { [K in keyof T & string]-?: NotJson<T[K], `${Path}.${K}`> }[keyof T & string]
            : never;

type Checked<T> = [NotJson<T>] extends [never] ? [] : [error: `JSON cannot hold ${NotJson<T>}`];

/** A payload declared by its type, with the steps that turn older shapes of it into the newest. */
export interface TypedPayload<T> extends StandardSchema<T> {
  /** How old payloads become new ones; events remember how many steps they have been through. */
  readonly upcasters: readonly ((data: never) => unknown)[];
  /** Declares the next shape. Events on disk keep theirs; whoever reads them sees the last one. */
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
