import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { takesThird, usesOnly } from "../../src/aggregate/source-inspection.ts";

/* oxlint-disable no-eval -- functions as users or compilers write them */

const PROPERTIES = new Set(["data", "id"]);
const only = (source: string): boolean => usesOnly((0, eval)(`(${source})`) as () => unknown, PROPERTIES);

describe("a function that provably reads only data and id of its second argument", () => {
  test.each([
    "(s, e) => { s.total += e.data.amount; s.by[e.id] = e.data; }",
    "function (s, e) { return s + e.data.amount; }",
    "function named(state, event) { state.n += event . data.n + event?.id.length }",
    "{ m(s, e) { s.n = e.data } }.m",
    "{ async m(s, $e) { s.n = $e.data } }.m",
    "s => s + 1",
    "(s) => s + 1",
    "() => 1",
    "(s, { data }) => s + data.n",
    "(s, { data: { n, m }, id: who }) => s + n + m + who",
    "(s, e) => `${e.data} of ${e.id}`",
    "(s, e,) => e.data",
    "async (s, e) => e.data",
    "(s, e) => (s.other.every, e.data)",
  ])("%s", (source) => expect(only(source)).toBe(true));
});

describe("a function that may read more", () => {
  test.each([
    "(s, e) => e",
    "(s, e) => { s.push(e) }",
    "(s, e) => ({ ...s, ...e })",
    "(s, e) => e.timestamp",
    "(s, e) => e['data']",
    "(s, e) => e.dataset",
    "(s, e) => { const { timestamp } = e; return timestamp }",
    "(s, e) => { const x = e; return x.data }",
    "(s, { timestamp }) => timestamp",
    "(s, { data, ...rest }) => rest",
    "(s, { data = 1 }) => data",
    "(s, e = {}) => e.data",
    "(s, ...e) => e[0].data",
    "(...all) => all",
    "function (s) { return arguments[1].timestamp }",
    "(s, e) => eval('e.timestamp')",
    "(s, e) => \\u0065.timestamp",
    "((s, e) => e.data).bind(null)",
    "(s, e, third) => e.data",
    "{ ['m'](s, e) { s.n = e.data } }.m",
    "(s, e) => JSON.stringify(e)",
    "(s, e) => [e].map((x) => x.timestamp)",
    "(s, e) => e.data + s.e",
    "Map",
    "parseInt",
  ])("%s", (source) => expect(only(source)).toBe(false));
});

describe("an apply that may look at its third argument", () => {
  const third = (source: string): boolean => takesThird((0, eval)(`(${source})`) as () => unknown);
  test.each([
    "(s, d, e) => e",
    "(s, d, e = {}) => e",
    "(s, d = ')', e = 1) => e",
    "(s, { text = '(' }, e = 1) => e",
    "(s, d /* ) */, e = 1) => e",
    "(s, d = /[)]/, e = 1) => e",
    "(s, d = `)${')'}`, e = 1) => e",
    "(s, ...rest) => rest[1]",
    "function (s, d) { return arguments[2] }",
    "((s, d, e) => e).bind(null)",
    "((s, d, e = 1) => e).bind(null)",
    "new Proxy((s, d, e = 1) => e, {})",
    "Object.assign((s, d, e = 1) => e, { toString: () => '(s) => s' })",
  ])("%s", (source) => expect(third(source)).toBe(true));

  test.each([
    "(s) => s",
    "s => s",
    "(s, d) => ({ ...s, n: d.n, m: d.m, text: ',)' })",
    "(s, { n, m }) => ({ ...s, n, m })",
    "function (s, d) { /* , */ return [s, d, 1] }",
  ])("%s does not", (source) => expect(third(source)).toBe(false));
});

test("a function of which the inspection says so reads no other property, whatever it looks like", () => {
  const heads = [
    "(s, e) =>",
    "function (s, e)",
    "async (s, e) =>",
    "(s, e = other) =>",
    "(s, ...[e]) =>",
    "(s, e, third) =>",
  ];
  const patterns = [
    "(s, { data, id }) =>",
    "(s, { data, ['timestamp']: e }) =>",
    "(s, { data, timestamp: e = '}' }) =>",
  ];
  const pieces = [
    "e.data;",
    "e.id;",
    "e?.data;",
    "e.timestamp;",
    "e['time' + 'stamp'];",
    "const x = e; x.timestamp;",
    "const { timestamp: t } = e;",
    "[e].map((y) => y.timestamp);",
    "((e) => e.actor)({ actor: 1 });",
    "`${e.data} ${`${e.timestamp}`}`;",
    "`e.timestamp`;",
    "'e.timestamp';",
    "// e.timestamp\n",
    "/* e */",
    "({ e }).e.timestamp;",
    "({ get v() { return e.timestamp } }).v;",
    "(function () { return e.actor })();",
    "Object.keys(e);",
    "for (const key in e) e[key];",
    "1 / 2; 'a/b'; /e/.test('x');",
    "`\\`${'`'}` + e.id;",
    "JSON.stringify({ ...e });",
    "e.data.e.timestamp;",
    "s.e = 1;",
  ];
  const source = fc.record({
    head: fc.constantFrom(...heads, ...patterns),
    body: fc.uniqueArray(fc.constantFrom(...pieces), { maxLength: 5 }),
  });
  let provable = 0;
  fc.assert(
    fc.property(source, ({ head, body }) => {
      const text = head.includes("{ data") ? body.filter((piece) => !/\be\b/.test(piece)) : body;
      const fn = (0, eval)(`const other = {}; (${head} { ${text.join(" ")} })`) as (s: object, e: object) => unknown;
      const read = new Set<unknown>();
      const event = new Proxy(
        { data: { e: {} }, id: "a", timestamp: 1, actor: 2 },
        {
          get: (target, key) => (read.add(key), Reflect.get(target, key)),
          ownKeys: (t) => (read.add("keys"), Reflect.ownKeys(t)),
        },
      );
      void fn({}, event);
      if (!usesOnly(fn as () => unknown, PROPERTIES)) return;
      provable++;
      expect([...read].filter((key) => !PROPERTIES.has(key as string))).toEqual([]);
    }),
    { numRuns: 1000 },
  );
  expect(provable).toBeGreaterThan(50);
});
