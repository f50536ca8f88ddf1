import { isEventfoldError } from "eventfold-es";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { copyOf, isJsonValue, isWellFormed, stringifyPayload } from "../../src/json.ts";

/** `levels` arrays or objects in each other. */
function nested(levels: number, wrap: (value: unknown) => unknown): unknown {
  let value: unknown = 1;
  for (let i = 0; i < levels; i++) value = wrap(value);
  return value;
}

function refusal(value: unknown): string {
  try {
    return `accepted as ${stringifyPayload(value, "event A of x")}`;
  } catch (error) {
    if (isEventfoldError(error, "INVALID_PAYLOAD")) return error.message;
    throw error;
  }
}

const cyclic: Record<string, unknown> = {};
cyclic["list"] = [{ self: cyclic }];
class Money {
  readonly cents = 5;
}
class Tags extends Array<string> {}

describe("a payload", () => {
  test.each<[value: unknown, text: string]>([
    [undefined, "null"],
    [null, "null"],
    [5, "5"],
    [-0, "0"],
    ["ü\u2028🦀", '"ü\u2028🦀"'],
    [{ a: [1, { b: null }], c: undefined }, '{"a":[1,{"b":null}]}'],
    [Object.assign(Object.create(null), { a: 1 }), '{"a":1}'],
    [Object.freeze({ a: Object.freeze([]) }), '{"a":[]}'],
    [{ toString: 1, constructor: "x", hasOwnProperty: null }, '{"toString":1,"constructor":"x","hasOwnProperty":null}'],
    [{ toJSON: 1 }, '{"toJSON":1}'],
    [1.7976931348623157e308, "1.7976931348623157e+308"],
  ])("%j is %s", (value, text) => {
    expect(stringifyPayload(value, "x")).toBe(text);
  });

  test.each<{ what: string; value: unknown; where: string }>([
    { what: "a date", value: { at: new Date(0) }, where: "data.at is a Date" },
    { what: "a date at the top", value: new Date(0), where: "data is a Date" },
    { what: "a map", value: { deep: [{ m: new Map() }] }, where: "data.deep[0].m is a Map" },
    { what: "a set", value: new Set([1]), where: "data is a Set" },
    { what: "bytes", value: { b: new Uint8Array(2) }, where: "data.b is a Uint8Array" },
    { what: "a regular expression", value: /x/, where: "data is a RegExp" },
    { what: "an error", value: new TypeError("x"), where: "data is a TypeError" },
    { what: "a promise", value: Promise.resolve(1), where: "data is a Promise" },
    { what: "an instance of a class", value: { price: new Money() }, where: "data.price is a Money" },
    { what: "an object with another object as its prototype", value: Object.create({ a: 1 }), where: "data is a" },
    { what: "a boxed number", value: Object(5), where: "data is a Number" },
    { what: "bigint", value: { n: 5n }, where: "data.n is a bigint" },
    { what: "a symbol", value: [Symbol("s")], where: "data[0] is a symbol" },
    { what: "a function", value: { f: () => 1 }, where: "data.f is a function" },
    { what: "NaN", value: { n: NaN }, where: "data.n is NaN" },
    { what: "Infinity", value: [1, Infinity], where: "data[1] is Infinity" },
    { what: "-Infinity", value: -Infinity, where: "data is -Infinity" },
    { what: "undefined in an array", value: { list: [1, undefined] }, where: "data.list[1] is undefined" },
    // oxlint-disable-next-line no-sparse-arrays -- this is what is tested
    { what: "a hole in an array", value: [1, , 3], where: "data[1] is undefined" },
    { what: "a cycle", value: cyclic, where: "contains itself" },
    { what: "half of a surrogate pair", value: { s: "a\ud800b" }, where: "data.s has half of a surrogate pair" },
    { what: "the other half", value: ["\udc00"], where: "data[0] has half of a surrogate pair" },
    { what: "halves in the wrong order", value: "\udc00\ud800", where: "data has half of a surrogate pair" },
    { what: "half of a surrogate pair in a key", value: { a: { "\ud800": 1 } }, where: "data.a has a key" },
    {
      what: "__proto__ as a key",
      value: JSON.parse('{"a":{"__proto__":{"b":1}}}'),
      where: 'data.a has a key "__proto__"',
    },
    { what: "a toJSON method", value: { a: { toJSON: () => 1 } }, where: "data.a has a toJSON method" },
    { what: "a toJSON method of an array", value: { a: Object.assign([1], { toJSON: () => 2 }) }, where: "data.a" },
    { what: "properties of an array", value: { a: Object.assign([1], { extra: 2 }) }, where: "data.a" },
    { what: "an array of a class of its own", value: { a: Tags.from(["x"]) }, where: "data.a" },
    { what: "symbols as keys", value: { a: { [Symbol("s")]: 1 } }, where: "data.a" },
  ])("with $what is refused, with its place", ({ value, where }) => {
    const message = refusal(value);
    expect(message).toContain("event A of x: ");
    expect(message).toContain(where);
    expect(isJsonValue(value)).toBe(false);
  });

  test.each<{ what: string; wrap: (value: unknown) => unknown }>([
    { what: "arrays", wrap: (value) => [value] },
    { what: "objects", wrap: (value) => ({ a: value }) },
  ])("may be nested in $what as deep as the Rust crate reads", ({ wrap }) => {
    expect(JSON.parse(stringifyPayload(nested(126, wrap), "x"))).toEqual(nested(126, wrap));
    expect(refusal(nested(127, wrap))).toContain("nested deeper than 126 levels");
    expect(refusal(nested(5000, wrap))).toContain("nested deeper than 126 levels");
  });
});

describe("any value", () => {
  const anything = fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
    withUnicodeString: true,
    key: fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("__proto__", "toJSON", "constructor", "\ud800")),
    values: [
      fc.double(),
      fc.integer(),
      fc.string({ unit: "binary" }),
      fc.boolean(),
      fc.constantFrom(null, undefined, -0, "\udfff", NaN),
    ],
  });

  /** A value without its `undefined` properties, and with 0 for -0. */
  function lenient(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(lenient);
    if (typeof value === "object" && value !== null) {
      const entries = Object.entries(value).filter(([, property]) => property !== undefined);
      return Object.fromEntries(entries.map(([key, property]) => [key, lenient(property)]));
    }
    return Object.is(value, -0) ? 0 : (value ?? null);
  }

  test("comes back from its text, or is refused", () => {
    let accepted = 0;
    fc.assert(
      fc.property(anything, (value) => {
        if (refusal(value).startsWith("event A of x: ")) return;
        accepted++;
        const back: unknown = JSON.parse(stringifyPayload(value, "x"));
        expect(back).toEqual(lenient(value));
        // Here what toEqual would let pass; toStrictEqual takes a key "constructor" for a class.
        expect(JSON.stringify(back)).toBe(JSON.stringify(lenient(value)));
      }),
      { numRuns: 2000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  test("that is accepted as JSON comes back exactly", () => {
    fc.assert(
      fc.property(anything, (value) => {
        if (!isJsonValue(value)) return;
        const back: unknown = JSON.parse(JSON.stringify(value));
        expect(back).toEqual(value);
        // Here what toEqual would let pass:
        expect(JSON.stringify(back)).toBe(JSON.stringify(value));
        expect(JSON.stringify(value)).toBe(stringifyPayload(value, "x"));
      }),
      { numRuns: 2000 },
    );
  });

  test("of JSON is accepted", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        const text = JSON.stringify(value);
        fc.pre(!text.includes('"__proto__"'));
        const given: unknown = JSON.parse(text);
        expect(isJsonValue(given)).toBe(true);
        expect(stringifyPayload(given, "x")).toBe(text);
      }),
    );
  });
});

test("only text without half surrogate pairs is well-formed", () => {
  expect(isWellFormed("")).toBe(true);
  expect(isWellFormed("a🦀\u0000\uffff")).toBe(true);
  for (const text of ["\ud800", "a\udc00", "\ud83e\ud83e\udd80", "🦀\udd80"]) expect(isWellFormed(text)).toBe(false);
  const unit = fc.integer({ min: 0xd700, max: 0xe100 }).map((code) => String.fromCharCode(code));
  fc.assert(
    fc.property(fc.string({ unit }), (text) => {
      expect(isWellFormed(text)).toBe(Buffer.from(text, "utf8").toString("utf8") === text);
    }),
  );
});

describe("a copy of a value", () => {
  test("equals it, and shares nothing with it", () => {
    const anyValue = fc.anything({
      withDate: true,
      withMap: true,
      withSet: true,
      withBigInt: true,
      withSparseArray: true,
    });
    fc.assert(
      fc.property(anyValue, (value) => {
        const copy = copyOf(value);
        expect(copy).toEqual(value);
        expect(shared(copy, value)).toBe(false);
      }),
    );
  });

  test("of plain data equals what JSON makes of it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        if (isJsonValue(value)) expect(copyOf(value)).toStrictEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

/** Whether two values that are equal have an object in common. */
function shared(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) return false;
  if (a === b) return true;
  return Object.keys(a).some((key) => shared(Reflect.get(a, key), Reflect.get(b, key)));
}
