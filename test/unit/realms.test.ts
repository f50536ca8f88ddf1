import { runInNewContext } from "node:vm";
import { aggregate, AggregateStore, data, isEventfoldError, memory, processManager, projection } from "eventfold-es";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { isDate, isError, isMapOrSet, isPromise, messageOf } from "../../src/realm.ts";
import { isJsonValue, stringifyPayload } from "../../src/json.ts";
import { textOf } from "../../src/fingerprint.ts";
import { systemErrorCode } from "../../src/fs/file-system.ts";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** A value of another realm, as Jest's and Vitest's vm pools mix them. */
const foreign = <T = unknown>(code: string): T => runInNewContext(`(${code})`) as T;

describe("values of another realm", () => {
  test("are of the kind that they are of at home", () => {
    expect(isError(foreign("new Error('x')"))).toBe(true);
    expect(isError(foreign("new (class Own extends RangeError {})('x')"))).toBe(true);
    expect(isError(foreign("{ message: 'x' }"))).toBe(false);
    expect(messageOf(foreign("new TypeError('why')"))).toBe("why");
    expect(systemErrorCode(foreign("Object.assign(new Error('x'), { code: 'ENOENT' })"))).toBe("ENOENT");
    expect(isPromise(foreign("Promise.resolve(1)"))).toBe(true);
    expect(isDate(foreign("new Date(0)"))).toBe(true);
    expect(isMapOrSet(foreign("new Map([[1, 2]])"))).toBe(true);
    expect(isMapOrSet(foreign("new WeakMap()"))).toBe(false);
    expect(textOf(foreign("new Map([[1, 2]])"))).toBe(textOf(new Map([[1, 2]])));
  });

  test("are plain data when they are plain, and refused when they are not", () => {
    const plain = foreign("{ list: [1, [2], { a: 'x' }], flat: { n: 1 } }");
    expect(isJsonValue(plain)).toBe(true);
    expect(stringifyPayload(plain, "event")).toBe('{"list":[1,[2],{"a":"x"}],"flat":{"n":1}}');
    expect(stringifyPayload(foreign("{ n: 1 }"), "event")).toBe('{"n":1}');
    for (const code of [
      "{ when: new Date(0) }",
      "{ map: new Map() }",
      "{ own: new (class Own {})() }",
      "{ list: new (class List extends Array {})() }",
      "{ bytes: new Uint8Array(2) }",
      "{ object: Object.create({ inherited: 1 }) }",
      "{ bare: new (class Bare extends null { constructor() { return Object.create(new.target.prototype); } })() }",
    ]) {
      expect(() => stringifyPayload(foreign(code), "event"), code).toThrow(/data\.\w+ is /);
    }
  });

  test.each([
    ["on disk", () => AggregateStore.builder(temporaryDirectory())],
    ["in memory", () => AggregateStore.builder(memory())],
  ])("pass through a store %s: commands, events, state, metadata, dates", async (_, builder) => {
    const Note = aggregate("note", {
      initial: foreign<{ lines: string[] }>("{ lines: [] }"),
      events: { Written: data<{ lines: string[] }>() },
      commands: { Write: data<{ lines: string[] }>() },
    }).define({
      handle: {
        Write: ({ data: written }) => foreign<(d: unknown) => never>("(data) => [{ type: 'Written', data }]")(written),
      },
      apply: {
        Written: (_state, { lines }) => foreign<(l: string[]) => { lines: string[] }>("(lines) => ({ lines })")(lines),
      },
    });
    const Lines = projection("lines", () => foreign<{ count: number }>("{ count: 0 }")).on(Note, {
      Written: (state, { data: { lines } }) => ({ count: state.count + lines.length }),
    });
    const Later = processManager("later", { dispatches: [Note] }).on(Note, {
      Written: (_state, { data: { lines } }) =>
        lines.length > 2
          ? {}
          : {
              schedule: [
                {
                  at: foreign<Date>("new Date(0)"),
                  dispatch: Note.at("b").Write({ lines: foreign("['1', '2', '3']") }),
                },
              ],
            },
    });
    await using store = await builder()
      .aggregate(Note)
      .projection(Lines)
      .processManager(Later)
      .processManagerMode("manual")
      .open();
    const { events, state } = await store.dispatch(
      Note.at("a").Write(foreign("{ lines: ['x', 'y'] }")),
      foreign("{ actor: 'u', metadata: { tags: ['t'] } }"),
    );
    expect(state).toEqual({ lines: ["x", "y"] });
    expect(events[0]?.metadata).toEqual({ tags: ["t"] });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.get(Note, "b").state()).toEqual({ lines: ["1", "2", "3"] });
    expect(await store.get(Note, "a").state({ at: foreign<Date>("new Date()") })).toEqual({ lines: ["x", "y"] });
    expect(await store.projection(Lines)).toEqual({ count: 5 });
  });

  test("are noticed where they must not be: a promise that apply or a reaction returns", async () => {
    const Bad = projection("bad", 0).on(Counter, { Added: () => foreign<never>("Promise.resolve(1)") });
    await using store = await AggregateStore.builder(memory()).aggregate(Counter).projection(Bad).open();
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    await expect(store.projection(Bad)).rejects.toThrow(/asynchronous/);
  });

  test("are errors of the library by their code", () => {
    const error: unknown = foreign("Object.assign(new Error('x'), { name: 'EventfoldError', code: 'CONFLICT' })");
    expect(isEventfoldError(error, "CONFLICT")).toBe(true);
    expect(isEventfoldError(error, "TIMEOUT")).toBe(false);
  });
});

test("a realm without a TextEncoder, such as Jest's with jsdom, opens a store on disk", async () => {
  vi.resetModules();
  vi.stubGlobal("TextEncoder", undefined);
  onTestFinished(() => void vi.unstubAllGlobals());
  const library = await import("eventfold-es");
  const Jar = library
    .aggregate("jar", { initial: 0, events: { Filled: data() }, commands: { Fill: data() } })
    .define({ handle: { Fill: ({ emit }) => emit.Filled() }, apply: { Filled: (n) => n + 1 } });
  await using store = await library.AggregateStore.builder(temporaryDirectory()).aggregate(Jar).open();
  // Ids that need another name as directories, and one that needs its length in bytes.
  for (const id of ["a/b", "naïve?", "日本:語", "😀*", "x".repeat(200)])
    expect((await store.get(Jar, id).execute({ type: "Fill" })).version).toBe(1);
  expect(globalThis.TextEncoder).toBeUndefined();
});
