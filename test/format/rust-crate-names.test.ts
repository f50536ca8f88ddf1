import diagnostics from "node:diagnostics_channel";
import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, projection } from "eventfold-es";
import { repair, verify } from "eventfold-es/doctor";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { keyOfStream, streamOfKey } from "../../src/file-store/disk/stream-key.ts";
import { storePaths } from "../../src/file-store/disk/store-paths.ts";
import { SimulatedDisk } from "eventfold-es/testing";
import { temporaryDirectory } from "../support/temporary-directory.ts";

function define<const Type extends string>(type: Type) {
  return aggregate(type, {
    initial: { value: 0 },
    events: { Added: data<{ by: number }>() },
    commands: { Add: data<{ by: number }>() },
  }).define({
    handle: { Add: ({ data, emit }) => emit.Added(data) },
    apply: { Added: (state, { by }) => ({ value: state.value + by }) },
  });
}

const Counter = define("counter");
const Sum = projection("sum", { sum: 0 }).on(Counter, { Added: (state, { data }) => ({ sum: state.sum + data.by }) });

/** What the Rust crate does when it first executes a command on an instance. */
function createAsCrate(
  directory: string,
  type: string,
  id: string,
  line = '{"type":"Added","data":{"by":1},"ts":1}',
): string {
  const file = path.join(`${directory}/streams/${type}/${id}`, "app.jsonl");
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.appendFileSync(file, `${line}\n`);
  fs.mkdirSync(`${directory}/meta`, { recursive: true });
  fs.appendFileSync(`${directory}/meta/streams.jsonl`, `${JSON.stringify({ id, ts: 1, type })}\n`);
  return file;
}

async function problemsOf(directory: string): Promise<string[]> {
  const { findings } = await verify(directory);
  return findings.filter(({ severity }) => severity !== "info").map(({ kind, severity }) => `${severity}: ${kind}`);
}

describe("ids of the Rust crate that are several path segments", () => {
  test.each(["before the first opening", "while the store is open"])("are adopted in their place: %s", async (when) => {
    const directory = temporaryDirectory();
    createAsCrate(directory, "counter", "plain");
    if (when !== "while the store is open") createAsCrate(directory, "counter", "p/q");
    const store = await AggregateStore.builder(directory).aggregate(Counter).projection(Sum).open();
    if (when === "while the store is open") createAsCrate(directory, "counter", "p/q");
    expect(await store.projection(Sum)).toEqual({ sum: 2 });
    expect(await store.list(Counter)).toEqual(["p/q", "plain"]);
    const nested = store.get(Counter, "p/q");
    await nested.execute({ type: "Add", data: { by: 10 } });
    expect(await nested.state()).toEqual({ value: 11 });
    createAsCrate(directory, "counter", "p/q");
    expect(await nested.state()).toEqual({ value: 12 });
    await store.close();
    expect(fs.readFileSync(`${directory}/streams/counter/p/q/app.jsonl`, "utf8").split("\n")).toHaveLength(4);
    expect(fs.existsSync(`${directory}/streams/counter/%p%2Fq`)).toBe(false);
    expect(await problemsOf(directory)).toEqual([]);
    await using again = await AggregateStore.builder(directory).aggregate(Counter).projection(Sum).open();
    expect(await again.get(Counter, "p/q").state()).toEqual({ value: 12 });
    // An id of this kind that the crate has not used is escaped.
    await again.get(Counter, "x/y").execute({ type: "Add", data: { by: 1 } });
    expect(fs.existsSync(`${directory}/streams/counter/%x%2Fy/app.jsonl`)).toBe(true);
  });

  test.each(["", "..", "../other", "a/../../b", "."])(
    "that lead elsewhere are reported and keep their line: %j",
    async (id) => {
      const directory = temporaryDirectory();
      createAsCrate(directory, "counter", "plain");
      createAsCrate(directory, "counter", id);
      const reported: unknown[] = [];
      const listener = (message: unknown): void => void reported.push(message);
      diagnostics.subscribe("eventfold-es:unreachable-ids", listener);
      const store = await AggregateStore.builder(directory).aggregate(Counter).projection(Sum).open();
      await store.projection(Sum);
      diagnostics.unsubscribe("eventfold-es:unreachable-ids", listener);
      await store.close();
      expect(reported).toEqual([{ directory: fs.realpathSync(directory), streams: [{ type: "counter", id }] }]);
      expect(await problemsOf(directory)).toContain("warning: unreachable-id");
      fs.appendFileSync(`${directory}/meta/streams.jsonl`, "garbage\n");
      await repair(directory);
      expect(fs.readFileSync(`${directory}/meta/streams.jsonl`, "utf8")).toContain(
        JSON.stringify({ id, ts: 1, type: "counter" }),
      );
    },
  );
});

describe("aggregate types that are no plain identifiers", () => {
  test.each(["billing.invoice", "ns::Type", "größe", "größe", "con", "Type.", "日本"])("%s", async (type) => {
    const directory = temporaryDirectory();
    const Named = define(type);
    const store = await AggregateStore.builder(directory).aggregate(Named).open();
    await store.get(Named, "a").execute({ type: "Add", data: { by: 1 } });
    await store.close();
    await using again = await AggregateStore.builder(directory).aggregate(Named).open();
    expect(await again.listStreams()).toEqual([{ type, id: "a" }]);
    expect(await again.get(Named, "a").state()).toEqual({ value: 1 });
    expect(await problemsOf(directory)).toEqual([]);
  });

  test.each(["billing.invoice", "ns::Type", "größe"])(
    "%s, in the directory that the Rust crate has made",
    async (type) => {
      const directory = temporaryDirectory();
      createAsCrate(directory, type, "a");
      const Named = define(type);
      await using store = await AggregateStore.builder(directory).aggregate(Named).open();
      await store.get(Named, "a").execute({ type: "Add", data: { by: 10 } });
      expect(await store.get(Named, "a").state()).toEqual({ value: 11 });
      expect(fs.readdirSync(`${directory}/streams`)).toEqual([type]);
      expect(await problemsOf(directory)).toEqual([]);
    },
  );

  test.each(["", "a/b", "..", "a\0b", ".x", "%41", "x".repeat(101), "語".repeat(100), "a b"])("refuses %j", (type) => {
    expect(() => define(type)).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }));
  });

  test("each have a directory of their own inside the store, and it tells the type", () => {
    const disk = new SimulatedDisk({ record: false });
    const paths = storePaths("/store");
    const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(name, name, (type, id) => {
        if (type.includes("/")) return;
        const key = keyOfStream(disk, paths, { type, id });
        expect(key.split("/")).toHaveLength(2);
        for (const part of key.split("/")) expect(["", ".", ".."]).not.toContain(part);
        expect(streamOfKey(key)).toEqual({ type, id });
      }),
    );
  });

  test("events may have such names, too", async () => {
    const Odd = aggregate("odd", {
      initial: { count: 0 },
      events: { "billing.created": data(), "ns::Changed": data(), "order/größe-x": data() },
      commands: { "do.it": data() },
    }).define({
      handle: { "do.it": ({ emit }) => [emit["billing.created"](), emit["ns::Changed"](), emit["order/größe-x"]()] },
      apply: {
        "billing.created": ({ count }) => ({ count: count + 1 }),
        "ns::Changed": ({ count }) => ({ count: count + 1 }),
        "order/größe-x": ({ count }) => ({ count: count + 1 }),
      },
    });
    const directory = temporaryDirectory();
    const store = await AggregateStore.builder(directory).aggregate(Odd).open();
    await store.get(Odd, "a").execute({ type: "do.it" });
    await store.close();
    await using again = await AggregateStore.builder(directory).aggregate(Odd).open();
    expect(await again.get(Odd, "a").state()).toEqual({ count: 3 });
  });
});

describe("lines that the Rust crate accepts do not stop a store", () => {
  test.each([
    ["meta that is a number", '{"type":"Added","data":{"by":1},"ts":1,"meta":5}'],
    ["meta that is a list", '{"type":"Added","data":{"by":1},"ts":1,"meta":[{"a":1}]}'],
    ["meta that is a text", '{"type":"Added","data":{"by":1},"ts":1,"meta":"x"}'],
    ["the largest ts", '{"type":"Added","data":{"by":1},"ts":18446744073709551615}'],
    ["a ts in microseconds", '{"type":"Added","data":{"by":1},"ts":1700000000000000}'],
    ["explicit nulls", '{"type":"Added","data":{"by":1},"ts":1,"id":null,"actor":null,"meta":null}'],
    ["other keys, order and blanks", ' { "x":[], "ts": 1 ,"data": {"by":1}, "type":"Added" } '],
    ["CR LF", '{"type":"Added","data":{"by":1},"ts":1}\r'],
    ["empty lines", '\n\n{"type":"Added","data":{"by":1},"ts":1}\n'],
  ])("%s", async (_, line) => {
    const directory = temporaryDirectory();
    createAsCrate(directory, "counter", "a", line);
    for (let value = 1; value < 7; value += 3) {
      await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Sum).open();
      expect(await store.get(Counter, "a").state()).toEqual({ value });
      expect(await store.projection(Sum)).toEqual({ sum: value });
      for await (const event of store.readEvents("counter", "a"))
        expect(Number.isNaN(new Date(event.timestamp).getTime())).toBe(false);
      await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } });
      fs.appendFileSync(`${directory}/streams/counter/a/app.jsonl`, `${line}\n`);
      expect(await store.get(Counter, "a").state()).toEqual({ value: value + 2 });
      fs.appendFileSync(`${directory}/streams/counter/a/app.jsonl`, `${line}\n`);
      expect(await store.get(Counter, "a").state()).toEqual({ value: value + 3 });
    }
    expect((await verify(directory)).findings.filter(({ severity }) => severity === "error")).toEqual([]);
  });

  test.each([
    ["a line that two writers mixed", '{"id":"a","ts":1,"ty{"id":"b"\n'],
    ["a line for a stream that is not there", '{"id":"gone","ts":1,"type":"counter"}\n'],
    ["bytes that are not UTF-8", Buffer.from([0x7b, 0xff, 0x7d, 0x0a])],
  ])("a registry with %s verifies with a warning", async (_, bytes) => {
    const directory = temporaryDirectory();
    createAsCrate(directory, "counter", "a");
    fs.appendFileSync(`${directory}/meta/streams.jsonl`, bytes);
    await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
    expect(await store.list(Counter)).toEqual(["a"]);
    expect(await problemsOf(directory)).toEqual(["warning: registry-damaged"]);
  });
});
