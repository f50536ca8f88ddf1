import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AggregateStore, aggregate, data } from "eventfold-es";
import * as library from "eventfold-es";
import { afterEach, expect, test, vi } from "vitest";
import { EXPECTED, wholeProgram } from "./whole-program.mjs";

const directory = () => mkdtempSync(join(tmpdir(), "eventfold-es-vitest-"));
const passTime = (ms) => vi.setSystemTime(Date.now() + ms);

afterEach(() => vi.useRealTimers());

test("a program works on disk", async () => {
  expect(await wholeProgram(library, directory())).toMatchObject(EXPECTED);
});

test("a program works on disk when the timers were replaced after the import", async () => {
  vi.useFakeTimers();
  expect(await wholeProgram(library, directory(), passTime)).toMatchObject(EXPECTED);
});

test("state, payloads and errors are those of the test", async () => {
  const List = aggregate("list", {
    initial: { items: [] },
    events: { Added: data() },
    commands: { Add: data() },
  }).define({
    handle: { Add: ({ data: item, emit }) => [emit.Added(item)] },
    apply: { Added: ({ items }, item) => ({ items: [...items, item] }) },
  });
  const store = await AggregateStore.builder(directory()).aggregate(List).open();
  expect(await store.get(List, "l").state()).toStrictEqual({ items: [] });
  await store.dispatch(List.at("l").Add({ deep: [[{ a: [] }]] }));
  expect(await store.get(List, "l").state()).toStrictEqual({ items: [{ deep: [[{ a: [] }]] }] });
  const error = await store.dispatch(List.at("l").Add({ when: new Date() })).catch((e) => e);
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe("INVALID_PAYLOAD");
  await store.close();
});
