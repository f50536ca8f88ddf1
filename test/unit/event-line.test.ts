import type { EventDraft, StoredEvent } from "eventfold-es/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLine } from "../../src/file-store/lines/parse-line.ts";
import { lineOf as writtenLine, metaText } from "../../src/file-store/lines/event-line.ts";
import { LazyEvent, type LineOrigin, parsePayloads } from "../../src/file-store/lines/lazy-event.ts";
import { positionOfLine, startOfOurs } from "../../src/file-store/lines/line-scanner.ts";

const STREAM = { type: "account", id: "ada" };
const ADOPTED = 77;
const origin: LineOrigin = {
  stream: STREAM,
  problem: (offset, why, cause) => Object.assign(new Error(`byte ${offset}: ${why}`), { cause }),
  adoptedPosition: () => ADOPTED,
};

const BEFORE = '{"type":"Before","data":{"n":1},"ts":1,"ms":1,"pos":1}\n';
const BEHIND = '\n{"type":"Behind","data":{"n":2},"ts":2,"id":"x","actor":"y","meta":{"z":1},"ms":2,"pos":3,"v":1}\n';

/** A line in a buffer with other lines around it, as a reader has it. */
function eventOf(line: string | undefined, version: number, offset: number): LazyEvent {
  return line === undefined
    ? new LazyEvent(undefined, 0, 0, version, offset, origin)
    : new LazyEvent(BEFORE + line + BEHIND, BEFORE.length, BEFORE.length + line.length, version, offset, origin);
}

/** The same for a line that the store is known to have written. */
function committedEvent(line: string, offset: number): LazyEvent {
  const text = BEFORE + line + BEHIND;
  const end = BEFORE.length + line.length;
  const start = startOfOurs(text, BEFORE.length, end, []);
  expect(start).toBeDefined();
  return new LazyEvent(text, BEFORE.length, end, 1, offset, origin, undefined, start);
}

const FIELDS = ["type", "data", "schemaVersion", "position", "timestamp", "eventId", "actor", "meta"] as const;
type Fields = Pick<StoredEvent, (typeof FIELDS)[number]>;

/** Every field, each read from a fresh event. */
function fast(line: string): Fields {
  return Object.fromEntries(FIELDS.map((field) => [field, eventOf(line, 1, 0)[field]])) as unknown as Fields;
}

/** Every field, read after the whole line was parsed. */
function slow(line: string): Fields {
  const event = eventOf(line, 1, 0);
  void event.timestamp;
  return Object.fromEntries(FIELDS.map((field) => [field, event[field]])) as unknown as Fields;
}

function lineOf(event: EventDraft, position: number): string {
  const line = writtenLine(event, metaText(event), position);
  expect(line.endsWith("\n")).toBe(true);
  expect(line.indexOf("\n")).toBe(line.length - 1);
  return line.slice(0, -1);
}

/** Keys and texts that have a meaning in lines. */
const special = fc.constantFrom(
  ...["ts", "data", "type", "id", "actor", "meta", "ms", "pos", "v"],
  ...[
    ',"ts":',
    '","ts":1,"',
    ',"ts":1,"ms":2,"pos":3}',
    '"',
    "\\",
    '\\"',
    '\\","ts":1',
    '"}',
    "}",
    "\n",
    "\u2028",
    "\u0000",
  ],
  ...['{"type":"T","data":1,"ts":2}', '"meta"', '"v":', "🦀", "größe", ""],
);
const text = fc.oneof(special, fc.string({ unit: "binary", maxLength: 8 }));
const { payload } = fc.letrec((tie) => ({
  payload: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.oneof(
      text,
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(null, true, false),
    ),
    fc.array(tie("payload"), { maxLength: 4 }),
    fc.dictionary(text, tie("payload"), { maxKeys: 4 }),
  ),
}));
const meta = fc.dictionary(
  text.filter((key) => key !== "__proto__"),
  payload,
  { maxKeys: 3 },
);
const draft: fc.Arbitrary<EventDraft> = fc.record({
  type: fc.oneof(fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_-]{0,9}$/), text),
  data: payload.map((value) => JSON.stringify(value)),
  schemaVersion: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 30 })),
  timestamp: fc.oneof(fc.nat(5000), fc.integer({ min: 0, max: 253_402_300_799_999 })),
  eventId: fc.option(text, { nil: undefined }),
  actor: fc.option(text, { nil: undefined }),
  meta: fc.option(meta, { nil: undefined }),
});
const position = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));

describe("a line that we wrote", () => {
  test("has the Rust crate's keys in its order, then ours", () => {
    const event = {
      type: "Added",
      data: '{"by":5}',
      schemaVersion: 0,
      timestamp: 1_795_415_061_123,
      eventId: "ecaf",
      actor: "u-1",
      meta: { correlation_id: "r-1" },
    };
    expect(lineOf(event, 42)).toBe(
      '{"type":"Added","data":{"by":5},"ts":1795415061,"id":"ecaf","actor":"u-1","meta":{"correlation_id":"r-1"},"ms":123,"pos":42}',
    );
    const least = { type: "Reset", data: "null", schemaVersion: 2, timestamp: 999 };
    expect(lineOf(least, 1)).toBe('{"type":"Reset","data":null,"ts":0,"ms":999,"pos":1,"v":2}');
  });

  test("comes back unchanged, read field by field and as a whole", () => {
    fc.assert(
      fc.property(draft, position, (event, at) => {
        const line = lineOf(event, at);
        const { type, schemaVersion, timestamp, eventId, actor } = event;
        const expected = {
          ...{ type, data: JSON.parse(event.data), schemaVersion, position: at, timestamp, eventId, actor },
          meta: event.meta === undefined ? undefined : JSON.parse(JSON.stringify(event.meta)),
        };
        expect(fast(line)).toStrictEqual(expected);
        expect(slow(line)).toStrictEqual(expected);
        expect(positionOfLine(line)).toBe(at);
      }),
      { numRuns: 1500 },
    );
  });

  test("comes back unchanged in any order of its fields", () => {
    fc.assert(
      fc.property(draft, position, fc.shuffledSubarray([...FIELDS]), (event, at, order) => {
        const line = lineOf(event, at);
        const whole = slow(line);
        const read = eventOf(line, 1, 0);
        for (const field of order) expect(read[field]).toStrictEqual(whole[field]);
      }),
      { numRuns: 300 },
    );
  });

  test("comes back unchanged at any depth of its payload", () => {
    for (const [open, close] of [
      ["[", "]"],
      ['{"ts":', "}"],
      ['{"a":1,"ts":', "}"],
      ['[{"data":', "}]"],
    ] as const) {
      const levels = Math.floor(126 / (open.match(/[[{]/g)?.length ?? 1));
      const data = open.repeat(levels) + "1" + close.repeat(levels);
      const line = lineOf({ type: "Deep", data, schemaVersion: 0, timestamp: 1 }, 9);
      expect(JSON.stringify(fast(line).data)).toBe(data);
      expect(fast(line)).toStrictEqual(slow(line));
    }
  });
});

describe("a foreign line", () => {
  /** An object's text with the given order of keys and blanks between its parts. */
  function textOf(entries: readonly (readonly [string, unknown])[], blank: string): string {
    const parts = entries.map(([key, value]) => `${JSON.stringify(key)}${blank}:${blank}${JSON.stringify(value)}`);
    return `${blank}{${blank}${parts.join(`${blank},${blank}`)}${blank}}${blank}`;
  }

  const nullable = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null | undefined> =>
    fc.option(fc.option(value, { nil: null }), { nil: undefined });
  const foreign = fc.record({
    type: text,
    data: payload,
    ts: fc.nat(),
    id: nullable(text),
    actor: nullable(text),
    meta: nullable(meta),
    ms: nullable(fc.nat(999)),
    pos: nullable(fc.integer({ min: 1, max: 1e6 })),
    v: nullable(fc.nat(9)),
    other: fc.option(payload, { nil: undefined }),
    Ts: fc.option(payload, { nil: undefined }),
  });

  test("has the same fields in any order of keys, with blanks, explicit nulls and unknown fields", () => {
    fc.assert(
      fc.property(
        foreign,
        fc.array(fc.nat(), { minLength: 11, maxLength: 11 }),
        fc.constantFrom("", "", " ", "\t ", " \r"),
        (fields, ranks, blank) => {
          const entries = Object.entries(fields)
            .filter(([, value]) => value !== undefined)
            .map((entry, i) => ({ entry, rank: ranks[i] ?? 0 }))
            .sort((a, b) => a.rank - b.rank)
            .map(({ entry }) => entry);
          const line = textOf(entries, blank);
          const expected = {
            type: fields.type,
            data: JSON.parse(JSON.stringify(fields.data)),
            schemaVersion: fields.v ?? 0,
            position: fields.pos ?? ADOPTED,
            timestamp: fields.ts * 1000 + (fields.ms ?? 0),
            eventId: fields.id ?? undefined,
            actor: fields.actor ?? undefined,
            meta: fields.meta ? JSON.parse(JSON.stringify(fields.meta)) : undefined,
          };
          expect(slow(line)).toStrictEqual(expected);
          expect(fast(line)).toStrictEqual(expected);
        },
      ),
      { numRuns: 1500 },
    );
  });

  test.each([
    { what: "v before the time", line: '{"type":"A","data":null,"v":1,"ts":0,"ms":0,"pos":1}' },
    {
      what: "all keys before the time",
      line: '{"type":"A","data":1,"id":"i","actor":"a","meta":{"b":1},"v":2,"ts":5,"ms":6,"pos":7}',
    },
    { what: "v before our last keys", line: '{"v":1,"type":"A","data":1,"ts":5,"ms":5,"pos":7}' },
    { what: "v just before our last keys", line: '{"type":"A","data":1,"ts":5,"v":12,"ms":123,"pos":7}' },
    { what: "keys that are spelled with escapes", line: '{"type":"A","data":1,"ts":5,"\\u006deta":{"a":1}}' },
    { what: "escapes in all keys", line: '{"\\u0074ype":"A","d\\u0061ta":1,"\\u0074s":5,"\\u0069d":"i"}' },
    { what: "escapes in the type", line: '{"type":"\\u0041\\"","data":1,"ts":5}' },
    { what: "an empty type", line: '{"type":"","data":1,"ts":5}' },
    { what: "our keys in the payload at the very end", line: '{"type":"A","ts":5,"data":{"x":1,"ms":5,"pos":7}}' },
    { what: "our keys in a text at the very end", line: '{"type":"A","data":1,"ts":5,"x":",\\"ms\\":5,\\"pos\\":7"}' },
    { what: "a field between payload and time", line: '{"type":"A","data":[1],"x":[2],"ts":5}' },
    { what: "a payload after the time", line: '{"type":"A","ts":5,"data":{"ts":6}}' },
    { what: "a time in the payload only until its end", line: '{"type":"A","data":{"a":[{"ts":1}],"ts":2},"ts":5}' },
    { what: "a position without ms", line: '{"type":"A","data":1,"ts":5,"pos":7}' },
    { what: "a null position", line: '{"type":"A","data":1,"ts":5,"ms":5,"pos":null}' },
    { what: "null meta", line: '{"type":"A","data":null,"ts":5,"id":null,"actor":null,"meta":null}' },
    { what: "numbers that JavaScript writes in another way", line: '{"type":"A","data":[1.0,1e2,-0.0,1E16],"ts":5}' },
    { what: "the key __proto__", line: '{"type":"A","data":{"__proto__":{"x":1}},"__proto__":{"actor":"x"},"ts":5}' },
  ])("gives the same with $what", ({ line }) => {
    const value = JSON.parse(line) as { readonly [key: string]: unknown };
    const own = (key: string): unknown => (Object.hasOwn(value, key) ? (value[key] ?? undefined) : undefined);
    const expected = {
      type: own("type"),
      data: value["data"],
      schemaVersion: own("v") ?? 0,
      position: own("pos") ?? ADOPTED,
      timestamp: Number(own("ts")) * 1000 + Number(own("ms") ?? 0),
      eventId: own("id"),
      actor: own("actor"),
      meta: own("meta"),
    };
    expect(slow(line)).toStrictEqual(expected);
    expect(fast(line)).toStrictEqual(expected);
  });
});

describe("a bad line", () => {
  const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);
  const problem = (why: string): Error => new Error(why);

  // Lines for which the Rust crate refuses the whole stream, and lines that are no event at all.
  const bad: { readonly what: string; readonly line: string }[] = [
    { what: "nothing", line: "" },
    { what: "no JSON", line: "hello" },
    { what: "a line cut short", line: '{"type":"A","data":{"by":5},"ts":17' },
    { what: "two lines in one", line: '{"type":"A","data":1,"ts":5}{"type":"A","data":1,"ts":5}' },
    { what: "a NUL byte", line: '{"type":"A","data":"a\u0000b","ts":5}' },
    { what: "a NUL byte between the keys", line: '{"type":"A",\u0000"data":1,"ts":5}' },
    { what: "a byte-order mark", line: '\ufeff{"type":"A","data":1,"ts":5}' },
    { what: "an array", line: '[{"type":"A","data":1,"ts":5}]' },
    { what: "null", line: "null" },
    { what: "no type", line: '{"data":1,"ts":5}' },
    { what: "a type that is no string", line: '{"type":5,"data":1,"ts":5}' },
    { what: "no data", line: '{"type":"A","ts":5}' },
    { what: "no data but a prototype with it", line: '{"type":"A","__proto__":{"data":1},"ts":5}' },
    { what: "no ts", line: '{"type":"A","data":1}' },
    { what: "null as ts", line: '{"type":"A","data":1,"ts":null}' },
    { what: "a string as ts", line: '{"type":"A","data":1,"ts":"5"}' },
    { what: "a fractional ts", line: '{"type":"A","data":1,"ts":5.5}' },
    { what: "1.0 as ts", line: '{"type":"A","data":1,"ts":1.0}' },
    { what: "1e3 as ts", line: '{"type":"A","data":1,"ts":1e3}' },
    { what: "a negative ts", line: '{"type":"A","data":1,"ts":-5}' },
    { what: "an id that is no string", line: '{"type":"A","data":1,"ts":5,"id":5}' },
    { what: "an actor that is no string", line: '{"type":"A","data":1,"ts":5,"actor":{}}' },
    { what: "type twice", line: '{"type":"A","type":"B","data":1,"ts":5}' },
    { what: "type twice, far apart", line: '{"type":"A","data":1,"ts":5,"type":"B"}' },
    { what: "data twice", line: '{"type":"A","data":1,"ts":5,"data":2}' },
    { what: "ts twice", line: '{"type":"A","data":1,"ts":5,"ts":5}' },
    { what: "id twice", line: '{"type":"A","data":1,"ts":5,"id":"a","id":"a"}' },
    { what: "half of a surrogate pair in the payload", line: '{"type":"A","data":"\\ud800","ts":5}' },
    { what: "half of a surrogate pair in the actor", line: '{"type":"A","data":1,"ts":5,"actor":"\\udc00"}' },
    { what: "a number beyond all numbers", line: '{"type":"A","data":[1e400],"ts":5}' },
    { what: "a payload nested 127 deep", line: `{"type":"A","data":${nested(127)},"ts":5}` },
    // Ours.
    { what: "ms beyond a second", line: '{"type":"A","data":1,"ts":5,"ms":1000,"pos":1}' },
    { what: "ms that is no number", line: '{"type":"A","data":1,"ts":5,"ms":"1","pos":1}' },
    { what: "position 0", line: '{"type":"A","data":1,"ts":5,"ms":1,"pos":0}' },
    { what: "a fractional position", line: '{"type":"A","data":1,"ts":5,"ms":1,"pos":1.5}' },
    { what: "a negative v", line: '{"type":"A","data":1,"ts":5,"ms":1,"pos":1,"v":-1}' },
  ];

  test.each(bad)("with $what is refused", ({ line }) => {
    expect(() => parseLine(line, problem)).toThrow();
    expect(() => eventOf(line, 1, 0).timestamp).toThrow("byte 0: ");
  });

  test("is accepted if the Rust crate reads it", () => {
    for (const line of [
      '{"type":"A","data":1,"ts":0}',
      '{"type":"A","data":1,"ts":5,"meta":[]}',
      '{"type":"A","data":1,"ts":18446744073709551615}',
      `{"type":"A","data":${nested(126)},"ts":5}`,
      '{"type":"A","data":"\\ud83e\\udd80","ts":5}',
      '{"type":"A","data":1e308,"ts":18446744073}',
      '{"type":"A","data":{"type":1,"type":2},"ts":5,"other":1,"other":2}',
    ])
      expect(parseLine(line, problem).type).toBe("A");
  });

  test("of bytes that are not UTF-8 is refused with its place, whatever field is read", () => {
    for (const field of FIELDS)
      expect(() => eventOf(undefined, 1, 4096)[field]).toThrow("byte 4096: this line is not UTF-8");
  });

  test("is refused with the reason, its place and the cause", () => {
    const event = eventOf('{"type":"A","data":{"by":', 3, 512);
    expect(() => event.data).toThrow("byte 512: this line is not JSON");
    expect(() => event.meta ?? event.actor).toThrow(expect.objectContaining({ cause: expect.any(SyntaxError) }));
    expect(() => eventOf('{"type":"A","data":1}', 1, 7).timestamp).toThrow("byte 7: ts is not a whole");
  });

  test("with one changed character is refused, or has the same fields read one by one and as a whole", () => {
    fc.assert(
      fc.property(draft, fc.nat(), fc.constantFrom(...'{}[]",:\\ 019ae'.split("")), (event, where, character) => {
        const line = lineOf(event, 5);
        const at = where % line.length;
        const changed = line.slice(0, at) + character + line.slice(at + 1);
        let whole: Fields;
        try {
          whole = slow(changed);
        } catch {
          return;
        }
        expect(fast(changed)).toStrictEqual(whole);
      }),
      { numRuns: 1500 },
    );
  });
});

describe("payloads that are parsed together", () => {
  const line = (data: string): string => `{"type":"A","data":${data},"ts":1,"ms":1,"pos":2}`;

  test("equal those that are parsed one by one", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { maxLength: 8 }), (values) => {
        const events = values.map((value) => committedEvent(line(JSON.stringify(value)), 0));
        parsePayloads(events);
        expect(events.map(({ data }) => data)).toEqual(
          values.map((value) => JSON.parse(JSON.stringify(value)) as unknown),
        );
      }),
    );
  });

  test.each([
    ["a key ts in an object", ['{"a":1,"ts":2}', '{"b":1}']],
    ["a key ts in an array", ['[1,{"x":2,"ts":3}]', '[1,{"x":2,"ts":3}]', '{"b":1}']],
    ["keys ts that follow each other", ['{"a":{"b":1,"ts":2},"ts":3}', '"text"', '{"a":1,"ts":3}']],
    ["a text that looks like the end", ['",\\"ts\\":"', "1"]],
  ])("with %s are not mixed up", (_, texts) => {
    const events = texts.map((text) => committedEvent(line(text), 0));
    parsePayloads(events);
    expect(events.map(({ data }) => data)).toEqual(texts.map((text) => JSON.parse(text) as unknown));
  });

  test("report an error only for the broken one", () => {
    const events = ['{"a":1}', '{"a":5,"b":', '{"a":2}'].map((text, i) => committedEvent(line(text), i));
    parsePayloads(events);
    expect(events[0]?.data).toEqual({ a: 1 });
    expect(() => events[1]?.data).toThrow("byte 1: this line is not JSON");
    expect(events[2]?.data).toEqual({ a: 2 });
  });
});

test("a foreign line is recognized by its end, after any number of other lines", () => {
  const foreign = '{"type":"Added","data":{"by":5},"ts":1795415061,"id":"x","actor":"batch"}\n';
  const text = foreign.repeat(200_000);
  const searches = (count: number, search: () => unknown): number => {
    const started = performance.now();
    for (let i = 0; i < count; i++) search();
    return performance.now() - started;
  };
  const to = text.length - 1;
  const allOfIt = searches(3, () => text.lastIndexOf("nowhere", to));
  expect(searches(100, () => startOfOurs(text, to + 1 - foreign.length, to, []))).toBeLessThan(allOfIt);
});
