import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { streamFile } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const Counter = aggregate("counter", {
  initial: { value: 0 },
  events: { Added: data<{ by: number }>() },
  commands: { Add: data<{ by: number }>() },
}).define({
  handle: { Add: ({ data, emit }) => emit.Added(data) },
  apply: { Added: (state, { by }) => ({ value: state.value + by }) },
});

const Sum = projection("sum", { sum: 0 }).on(Counter, { Added: (state, { data }) => ({ sum: state.sum + data.by }) });

const Mirror = aggregate("mirror", {
  initial: { value: 0 },
  events: { Seen: data<{ by: number }>() },
  commands: { See: data<{ by: number }>() },
}).define({
  handle: { See: ({ data, emit }) => emit.Seen(data) },
  apply: { Seen: (state, { by }) => ({ value: state.value + by }) },
});

const Copier = processManager("copier", { dispatches: [Mirror] }).on(Counter, {
  Added: (_, { data }) => Mirror.at("m").See({ by: data.by }),
});

function builder(directory: string) {
  return AggregateStore.builder(directory).aggregate(Counter).aggregate(Mirror).projection(Sum).processManager(Copier);
}

/** What the Rust crate does for one command. */
function appendAsCrate(directory: string, id: string, by: number): void {
  const file = streamFile(directory, "counter", id);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.appendFileSync(file, `{"type":"Added","data":{"by":${by}},"ts":1700000000}\n`);
}

async function closedStore(): Promise<string> {
  const directory = temporaryDirectory();
  const store = await builder(directory).open();
  await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
  await until(async () => (await store.get(Mirror, "m").state()).value === 1);
  await store.projection(Sum);
  await store.close();
  return directory;
}

describe("an event that the Rust crate appended while the store was closed is seen without touching its instance", () => {
  test("by a projection", async () => {
    const directory = await closedStore();
    appendAsCrate(directory, "a", 10);
    await using store = await builder(directory).open();
    expect(await store.projection(Sum)).toEqual({ sum: 11 });
  });

  test("by a projection, in a stream that is new", async () => {
    const directory = await closedStore();
    appendAsCrate(directory, "new", 10);
    await using store = await builder(directory).open();
    expect(await store.projection(Sum)).toEqual({ sum: 11 });
    expect(await store.list(Counter)).toEqual(["a", "new"]);
  });

  test("by a process manager", async () => {
    const directory = await closedStore();
    appendAsCrate(directory, "a", 10);
    await using store = await builder(directory).open();
    await until(async () => (await store.get(Mirror, "m").state()).value === 11);
  });

  test("by a subscription", async () => {
    const directory = await closedStore();
    appendAsCrate(directory, "a", 10);
    await using store = await builder(directory).open();
    const seen: unknown[] = [];
    for await (const event of store.subscribe({ from: 1, aggregates: [Counter] })) {
      seen.push(event.data);
      if (seen.length === 2) break;
    }
    expect(seen).toEqual([{ by: 1 }, { by: 10 }]);
  });
});

describe("an event that the Rust crate appends while the store is open is seen", () => {
  test("by a subscription and a process manager that follow", async () => {
    const directory = await closedStore();
    await using store = await builder(directory).open();
    const seen: unknown[] = [];
    const reading = (async () => {
      for await (const event of store.subscribe({ from: 1, aggregates: [Counter] })) {
        seen.push((event.data as { readonly by: number }).by);
        if (seen.length === 3) break;
      }
    })();
    await until(() => seen.length === 1);
    appendAsCrate(directory, "a", 10);
    await until(() => seen.length === 2);
    appendAsCrate(directory, "new", 100);
    await reading;
    expect(seen).toEqual([1, 10, 100]);
    await until(async () => (await store.get(Mirror, "m").state()).value === 111);
  });

  test("by an instance in memory, at once", async () => {
    const directory = await closedStore();
    await using store = await builder(directory).open();
    const counter = store.get(Counter, "a");
    for (let value = 1; value < 50; value += 10) {
      expect(await counter.state()).toEqual({ value });
      appendAsCrate(directory, "a", 10);
    }
  });

  test("by a projection, within a second", async () => {
    const directory = await closedStore();
    await using store = await builder(directory).open();
    expect(await store.projection(Sum)).toEqual({ sum: 1 });
    appendAsCrate(directory, "a", 10);
    await until(async () => (await store.projection(Sum)).sum === 11);
    appendAsCrate(directory, "a", 100);
    await until(async () => (await store.projection(Sum)).sum === 111);
  });

  test("once, if several readers look at the same time", async () => {
    const directory = await closedStore();
    await using store = await builder(directory).open();
    for (let i = 0; i < 250; i++) appendAsCrate(directory, `new ${i}`, 1);
    const sums = await Promise.all([store.projection(Sum), store.projection(Sum), store.listStreams()]);
    expect(sums.slice(0, 2)).toEqual([{ sum: 251 }, { sum: 251 }]);
  });
});

describe("a part of a line", () => {
  test("is not seen before it is complete", async () => {
    const directory = await closedStore();
    const file = streamFile(directory, "counter", "a");
    fs.appendFileSync(file, '{"type":"Added","data":{"by":10},');
    await using store = await builder(directory).open();
    const counter = store.get(Counter, "a");
    expect(await store.projection(Sum)).toEqual({ sum: 1 });
    expect(await counter.state()).toEqual({ value: 1 });
    fs.appendFileSync(file, '"ts":1700000000}\n');
    expect(await counter.state()).toEqual({ value: 11 });
    expect(await store.projection(Sum)).toEqual({ sum: 11 });
  });
});
