import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, type CommandContext, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { allLines, holes, linesOf, logSegments, oneTo, streamFile, treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** A store with commands of one and of several events, commits to several streams, and all context fields. */
async function live(directory: string): Promise<void> {
  let time = Date.UTC(2024, 0, 1);
  let id = 0;
  await using store = await AggregateStore.builder(directory)
    .aggregate(Account)
    .clock(() => (time += 1234))
    .ids(() => `id-${++id}`)
    .open();
  const context: CommandContext = {
    actor: "Zoë",
    correlationId: "c-1",
    causationId: "c-0",
    sourceDevice: "d",
    metadata: { z: 1, a: [null, { "\u2028": "\u0000" }] },
    idempotencyKey: "k",
  };
  await store.get(Account, "ada").execute({ type: "Open", data: { owner: 'A "quoted"\n name' } }, context);
  await store.get(Account, "ada").execute({ type: "Split", data: { amounts: [1, 2, 3] } }, { actor: "u" });
  await store.dispatchAll([Account.at("bob").Open({ owner: "Bob" }), Account.at("ada").Close()], {
    correlationId: "x",
  });
  const cyd = store.get(Account, "größe/日本");
  await cyd.execute({ type: "Open", data: { owner: "Cyd" } });
  await Promise.all(oneTo(20).map((amount) => cyd.execute({ type: "Deposit", data: { amount } })));
}

describe("the files of a store", () => {
  test("event lines have the Rust crate's keys in its order, then ours", async () => {
    const directory = temporaryDirectory();
    await live(directory);
    const keys = ["type", "data", "ts", "id", "actor", "meta", "ms", "pos"];
    const lines = allLines(directory);
    expect(lines).toHaveLength(27);
    for (const { line, text } of lines) {
      expect(Object.keys(line)).toEqual(keys.filter((key) => key in line));
      expect(JSON.stringify(line)).toBe(text);
      expect(Number.isSafeInteger(line.ts)).toBe(true);
      expect(line.ms).toBeGreaterThanOrEqual(0);
      expect(line.ms).toBeLessThan(1000);
      expect(line).toHaveProperty("data");
      expect(Object.values(line).slice(1)).not.toContain(undefined);
    }
    expect(
      holes(
        lines.map(({ line }) => line.pos ?? 0),
        27,
      ),
    ).toBeUndefined();
  });

  test("an event without payload has data null and no absent fields", async () => {
    const directory = temporaryDirectory();
    await live(directory);
    const [opened, deposited, , , closed] = linesOf(streamFile(directory, "account", "ada"));
    expect(opened).toBe(
      String.raw`{"type":"Opened","data":{"owner":"A \"quoted\"\n name"},"ts":1704067201,"id":"id-1","actor":"Zoë","meta":{"z":1,"a":[null,{"${"\u2028"}":"\u0000"}],"correlation_id":"c-1","source_device":"d","causation_id":"c-0","idempotency_key":"k"},"ms":234,"pos":1}`,
    );
    expect(deposited).toBe(
      '{"type":"Deposited","data":{"amount":1},"ts":1704067202,"id":"id-2","actor":"u","ms":468,"pos":2}',
    );
    expect(closed).toMatch(
      /^\{"type":"Closed","data":null,"ts":\d+,"id":"id-6","meta":\{"correlation_id":"x"\},"ms":\d+,"pos":6\}$/,
    );
  });

  test("every line of the commit log is JSON", async () => {
    const directory = temporaryDirectory();
    await live(directory);
    const [segment, ...others] = logSegments(directory);
    expect(others).toEqual([]);
    const lines = linesOf(segment ?? "").map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines[0]).toMatchObject({ first: 1 });
    expect(lines.filter((line) => "pos" in line).map((line) => line["pos"])).toEqual(oneTo(27));
  });

  test("the registry has the Rust crate's keys, in the order of creation", async () => {
    const directory = temporaryDirectory();
    await live(directory);
    const lines = linesOf(path.join(directory, "meta", "streams.jsonl"));
    const entries = lines.map((line) => JSON.parse(line) as { id: string });
    for (const [i, entry] of entries.entries()) {
      expect(Object.keys(entry)).toEqual(["id", "ts", "type"]);
      expect(JSON.stringify(entry)).toBe(lines[i]);
    }
    expect(entries.map(({ id }) => id)).toEqual(["ada", "bob", "größe/日本"]);
  });

  test("the registry is rebuilt when it is lost", async () => {
    const directory = temporaryDirectory();
    await live(directory);
    const registry = path.join(directory, "meta", "streams.jsonl");
    const lines = linesOf(registry);
    fs.rmSync(registry);
    const store = await AggregateStore.builder(directory).aggregate(Account).open();
    expect(await store.list(Account)).toEqual(["ada", "bob", "größe/日本"]);
    await store.close();
    expect(linesOf(registry)).toEqual(lines);
  });

  test("an injected clock and injected ids make every run write the same bytes", async () => {
    const [one, two] = [temporaryDirectory(), temporaryDirectory()];
    await live(one);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await live(two);
    const files = treeOf(one);
    expect([...files.keys()]).toContain(path.join("streams", "account", "ada", "app.jsonl"));
    expect(files).toEqual(treeOf(two));
  });
});

describe("after the commit log was lost", () => {
  const Deposits = projection("deposits", { total: 0, count: 0 }).on(Account, {
    Deposited: (state, { data: { amount } }) => ({ total: state.total + amount, count: state.count + 1 }),
  });
  const open = (directory: string) => AggregateStore.builder(directory).aggregate(Account).projection(Deposits).open();

  test.each([
    [
      "keys in another order",
      (line: string): string =>
        JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(line) as object).reverse())),
    ],
    ["blanks", (line: string): string => line.replaceAll('":', '": ')],
    ["an escape in the type", (line: string): string => line.replace('"Deposited"', '"\\u0044eposited"')],
  ])("lines with %s are the same events", async (_, rewritten) => {
    const directory = temporaryDirectory();
    let store = await open(directory);
    await store.get(Account, "bob").execute(Account.commands.Open({ owner: "Bob" }));
    for (const amount of [1, 2, 3]) await store.get(Account, "bob").execute(Account.commands.Deposit({ amount }));
    const expected = { state: await store.get(Account, "bob").state(), projection: await store.projection(Deposits) };
    await store.close();
    const file = streamFile(directory, "account", "bob");
    const lines = linesOf(file);
    fs.writeFileSync(file, lines.map((line, i) => (i % 2 === 0 ? line : rewritten(line)) + "\n").join(""));
    for (const lost of ["commit_log", "projections"]) fs.rmSync(path.join(directory, lost), { recursive: true });
    fs.rmSync(path.dirname(file) + "/views", { recursive: true, force: true });
    store = await open(directory);
    expect(await store.get(Account, "bob").state()).toEqual(expected.state);
    expect(await store.projection(Deposits)).toEqual(expected.projection);
    await store.close();
  });
});
