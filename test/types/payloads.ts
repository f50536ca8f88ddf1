/** Payloads: what may be declared, what JSON would change, and how old shapes become new ones. */
import { data, type DataOf, type NotJson } from "eventfold-es";
import { no, type Same, yes } from "./support.ts";

// What JSON brings back as it is.
data();
data<string>();
data<number | null>();
data<boolean[]>();
data<{ a: string; b?: number; c: { d: ("x" | "y")[] } | null }>();
data<readonly { readonly a?: string | undefined }[]>();
data<Record<string, number>>();
data<[name: string, amount: number]>();
data<unknown>();
data<{ anything: unknown }>();
data<{ id: string & { readonly brand: "AccountId" } }>();
const CURRENCIES = { eur: "EUR", usd: "USD" } as const;
data<{ currency: (typeof CURRENCIES)[keyof typeof CURRENCIES] }>();

// Types that contain themselves.
interface Tree {
  readonly value: number;
  readonly children: readonly Tree[];
}
type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
interface Expression {
  left: Expression | Term;
  right: Expression | Term;
}
interface Term {
  factors: (Expression | Term | number)[];
  named: Record<string, Expression>;
}
data<Tree>();
data<Json>();
data<{ value: Json }>();
data<Expression>();

class Money {
  readonly #cents: number;
  constructor(cents: number) {
    this.#cents = cents;
  }
  plus(other: Money): Money {
    return new Money(this.#cents + other.#cents);
  }
}

// What JSON changes or drops.
// @ts-expect-error a date becomes a string
data<Date>();
// @ts-expect-error one of several
data<string | Date>();
// @ts-expect-error in a property
data<{ at: Date }>();
// @ts-expect-error in an optional property
data<{ at?: Date }>();
// @ts-expect-error in a nested position
data<{ deep: { list: { m: Map<string, number> }[] } }>();
// @ts-expect-error far down
data<{ a: { b: { c: { d: { e: { f: { g: { h: Date } } } } } } } }>();
// @ts-expect-error in a record
data<Record<string, Date>>();
// @ts-expect-error in a record of numbers
data<Record<number, Date>>();
// @ts-expect-error in a property that is a number
data<{ 0: Date }>();
// @ts-expect-error in a tuple
data<[number, Date]>();
// @ts-expect-error in one member of a union
data<{ kind: "a"; at: string } | { kind: "b"; at: Date }>();
// @ts-expect-error bigint
data<{ n: bigint }>();
// @ts-expect-error symbol
data<{ s: symbol }>();
// @ts-expect-error a function
data<{ f: () => void }>();
// @ts-expect-error an optional function
data<{ f?: (a: string) => number }>();
// @ts-expect-error an instance of a class
data<{ price: Money }>();
// @ts-expect-error a set
data<Set<string>>();
// @ts-expect-error a read-only map
data<{ m: ReadonlyMap<string, number> }>();
// @ts-expect-error bytes
data<{ bytes: Uint8Array }>();
// @ts-expect-error a buffer
data<{ bytes: Buffer }>();
// @ts-expect-error a regular expression
data<{ pattern: RegExp }>();
// @ts-expect-error an error
data<{ cause: Error }>();
// @ts-expect-error a promise
data<Promise<string>>();
// @ts-expect-error a URL
data<{ link: URL }>();
interface DatedTree {
  readonly at: Date;
  readonly children: readonly DatedTree[];
}
// @ts-expect-error in a type that contains itself
data<DatedTree>();

// The error names the path.
yes<Same<NotJson<{ a: { b: Date[] } }>, "data.a.b[]">>();
yes<Same<NotJson<{ a: Date; b: bigint; c: string }>, "data.a" | "data.b">>();
yes<Same<NotJson<Date>, "data">>();
yes<Same<NotJson<{ a: string; b?: number[] }>, never>>();
yes<Same<NotJson<unknown>, never>>();
yes<Same<NotJson<Json>, never>>();
no<Same<NotJson<DatedTree>, never>>();

// Types of declarations.
const none = data();
const deposited = data<{ amount: number }>();
yes<Same<DataOf<typeof none>, undefined>>();
yes<Same<DataOf<typeof deposited>, { amount: number }>>();

// Upcasting: handlers see the last type only.
const upcast = data<{ amount: string }>()
  .to<{ cents: number }>((old) => ({ cents: Math.round(Number(old.amount) * 100) }))
  .to<{ cents: number; currency: string }>((old) => ({ ...old, currency: "EUR" }));
yes<Same<DataOf<typeof upcast>, { cents: number; currency: string }>>();
const inferred = data<{ a: 1 }>().to((old) => {
  yes<Same<typeof old, { a: 1 }>>();
  return { b: old.a + 1 };
});
yes<Same<DataOf<typeof inferred>, { b: number }>>();
// @ts-expect-error the step must produce the declared next shape
data<{ a: 1 }>().to<{ b: number }>((old) => ({ c: old.a }));
// @ts-expect-error the step gets the previous shape
data<{ a: 1 }>().to<{ b: number }>((old) => ({ b: old.c }));
// @ts-expect-error the next shape must be JSON too
data<{ at: string }>().to<{ at: Date }>((old) => ({ at: new Date(old.at) }));
// An event may get a payload later.
const filled = data().to<{ b: number }>((old) => {
  yes<Same<typeof old, undefined>>();
  return { b: 1 };
});
yes<Same<DataOf<typeof filled>, { b: number }>>();
