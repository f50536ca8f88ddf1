import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { AggregateStore, processManager, projection } from "eventfold-es";
import { openNodeFileSystem } from "eventfold-es/testing";
import { expect, test } from "vitest";
import { crateCursor } from "../support/rust-crate.ts";
import { Counter, Meter } from "../support/counter.ts";
import { streamFile, treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const FIRST = '{"type":"Added","data":{"by":1},"ts":1,"id":"e-1"}\n';
const SECOND = '{"type":"Added","data":{"by":20},"ts":2,"id":"e-2"}\n';

/** A directory as the Rust crate leaves it: one counter, and the given other files. */
function cratesDirectory(lines: string, others: Readonly<Record<string, unknown>> = {}): string {
  const directory = temporaryDirectory();
  const files = { "streams/counter/c/app.jsonl": lines, "meta/streams.jsonl": "", ...others };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(`${directory}/${path}`), { recursive: true });
    writeFileSync(`${directory}/${path}`, typeof content === "string" ? content : JSON.stringify(content, null, 2));
  }
  return directory;
}

/** The Rust crate has read the first line. */
const cursors = { "counter/c": crateCursor(FIRST) };

test("a projection's checkpoint is continued: its state is kept, and no event is folded twice", async () => {
  const Sum = projection("sum", { sum: 0 }).on(Counter, { Added: (s, { data }) => ({ sum: s.sum + data.by }) });
  const directory = cratesDirectory(FIRST + SECOND, {
    "projections/sum/checkpoint.json": { state: { sum: 300 }, cursors },
  });
  await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Sum).open();
  expect(await store.projection(Sum)).toEqual({ sum: 320 });
  await store.rebuildProjection(Sum);
  expect(await store.projection(Sum)).toEqual({ sum: 21 });
});

test("a process manager's checkpoint is continued: no event is handled twice", async () => {
  const Mirror = processManager("mirror", { dispatches: [Meter], initial: { seen: 0 } }).on(Counter, {
    Added: ({ seen }, { id, data }) => ({
      state: { seen: seen + 1 },
      dispatch: Meter.at(`${id}-${seen + 1}`).Measure({ watts: data.by }),
    }),
  });
  const directory = cratesDirectory(FIRST + SECOND, {
    "process_managers/mirror/checkpoint.json": { state: { seen: 6 }, cursors },
  });
  await using store = await AggregateStore.builder(directory)
    .aggregate(Counter)
    .aggregate(Meter)
    .processManager(Mirror)
    .processManagerMode("manual")
    .open();
  expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  expect(await store.listStreams("meter")).toEqual([{ type: "meter", id: "c-7" }]);
});

test("a snapshot of the Rust crate is left unchanged: the state is folded from the events", async () => {
  const directory = cratesDirectory(FIRST + SECOND, {
    "streams/counter/c/views/state.snapshot.json": { state: 999, ...crateCursor(FIRST) },
  });
  await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
  expect(await store.get(Counter, "c").state()).toBe(21);
});

test("a command on an instance that the Rust crate holds is refused after a time-out; reads and other instances work", async () => {
  const directory = cratesDirectory(FIRST);
  await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
  const crate = (await openNodeFileSystem()).open(streamFile(directory, "counter", "c"), "update");
  expect(crate.tryLock()).toBe(true);
  const add = Counter.commands.Add({ by: 1 });
  await expect(store.get(Counter, "c").execute(add)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
  expect(await store.get(Counter, "c").state()).toBe(1);
  await store.get(Counter, "d").execute(add);
  crate.close();
  expect(await store.get(Counter, "c").execute(add)).toMatchObject({ state: 2 });
});

test("events that the aggregate does not declare are an error, unless the store is configured otherwise", async () => {
  const directory = cratesDirectory(FIRST.replace("Added", "Renamed") + SECOND);
  await using lenient = await AggregateStore.builder(directory).aggregate(Counter).onUnknownEvent("skip").open();
  expect(await lenient.get(Counter, "c").state()).toBe(20);
  await using strict = await AggregateStore.builder(directory).aggregate(Counter).open();
  await expect(strict.get(Counter, "c").state()).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
});

test("a stream whose first events were moved to archive.jsonl.zst is refused, and no file changes", async () => {
  const directory = cratesDirectory(SECOND, { "streams/counter/c/archive.jsonl.zst": "not read" });
  const before = treeOf(`${directory}/streams`);
  await expect(AggregateStore.builder(directory).aggregate(Counter).open()).rejects.toMatchObject({
    code: "UNSUPPORTED_FORMAT",
    message: expect.stringContaining("streams/counter/c/archive.jsonl.zst") as string,
  });
  expect(treeOf(`${directory}/streams`)).toEqual(before);
});

test("the Rust crate's lines stay unchanged before ours", async () => {
  const directory = cratesDirectory(FIRST + SECOND);
  await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
  expect(await store.get(Counter, "c").execute(Counter.commands.Add({ by: 4 }))).toMatchObject({
    version: 3,
    state: 25,
  });
  const text = readFileSync(streamFile(directory, "counter", "c"), "utf8");
  expect(text.startsWith(FIRST + SECOND)).toBe(true);
  expect(Object.keys(JSON.parse(text.slice((FIRST + SECOND).length)) as object)).toEqual([
    ...["type", "data", "ts", "id", "ms", "pos"],
  ]);
});
