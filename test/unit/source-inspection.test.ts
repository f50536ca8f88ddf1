import { describe, expect, test } from "vitest";
import { usesOnly } from "../../src/aggregate/source-inspection.ts";

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
