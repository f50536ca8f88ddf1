import { AggregateStore } from "eventfold-es";
import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { cli } from "../support/cli.ts";
import { treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const MODEL = path.join(import.meta.dirname, "../support/cli-model.ts");
const { Open, Deposit } = Account.commands;

/** Three accounts; the store is closed. */
async function filledStore(): Promise<string> {
  const directory = temporaryDirectory();
  let time = Date.UTC(2026, 0, 1);
  await using store = await AggregateStore.builder(directory)
    .aggregate(Account)
    .clock(() => (time += 1000))
    .open();
  for (const id of ["ada", "bob", "cyd"])
    await store.get(Account, id).execute(Open({ owner: id }), { correlationId: "r-1" });
  for (const amount of [5, 7]) await store.get(Account, "ada").execute(Deposit({ amount }), { actor: "desk" });
  return directory;
}

test("streams lists the instances", async () => {
  const { out, code } = await cli(["streams", await filledStore()]);
  expect(code).toBe(0);
  expect(out).toBe("aggregate  id\naccount    ada\naccount    bob\naccount    cyd\n");
});

test("events prints one line an event", async () => {
  const { out } = await cli(["events", await filledStore(), "--reverse", "--limit", "2"]);
  expect(out).toBe(
    '      5  2026-01-01T00:00:05.000Z  account/ada 3  Deposited  {"amount":7}  by desk\n' +
      '      4  2026-01-01T00:00:04.000Z  account/ada 2  Deposited  {"amount":5}  by desk\n',
  );
});

test.each([
  [
    ["--from", "2", "--to", "4"],
    [2, 3, 4],
  ],
  [
    ["--type", "Deposited"],
    [4, 5],
  ],
  [
    ["--id", "bob", "cyd"],
    [2, 3],
  ],
  [
    ["--aggregate", "account", "--correlation", "r-1", "--limit", "2"],
    [1, 2],
  ],
  [["--aggregate", "transfer"], []],
])("events %s selects events", async (options, positions) => {
  const directory = await filledStore();
  const { out } = await cli(["events", directory, "--jsonl", ...options]);
  const lines = out.split("\n").slice(0, -1);
  expect(lines.map((line) => (JSON.parse(line) as { position: number }).position)).toEqual(positions);
  const { out: document } = await cli(["events", directory, "--json", ...options]);
  expect((JSON.parse(document) as { position: number }[]).map(({ position }) => position)).toEqual(positions);
});

test("show prints the history of an instance, and with the model its state at any version or time", async () => {
  const directory = await filledStore();
  const { out } = await cli(["show", directory, "account", "ada"]);
  expect(out.split("\n")).toHaveLength(4);
  const old = await cli(["show", directory, "account", "ada", "--app", MODEL, "--version", "2"]);
  expect(old.out).toContain('state at version 2\n{\n  "open": true,\n  "balance": 5\n}\n');
  const dated = await cli([
    "show",
    directory,
    "account",
    "ada",
    "--app",
    MODEL,
    "--at",
    "2026-01-01T00:00:04Z",
    "--json",
  ]);
  expect(JSON.parse(dated.out)).toMatchObject({ state: { balance: 5 }, events: [{ version: 1 }, { version: 2 }] });
});

test("stats and projections print how far the readers are, and a projection's state", async () => {
  const directory = await filledStore();
  const { out } = await cli(["stats", directory, "--app", MODEL]);
  expect(out).toContain("head     5\nstreams  3\n");
  expect((await cli(["projections", directory, "--app", MODEL])).out).toContain("totals");
  const state = await cli(["projections", directory, "totals", "--app", MODEL, "--jsonl"]);
  expect(JSON.parse(state.out)).toEqual({ total: 12 });
});

test("explain and diff print what has changed a state, and a projection can be read at a position", async () => {
  const directory = await filledStore();
  const ada = [directory, "account", "ada"];
  const { out } = await cli(["explain", ...ada, "balance", "--app", MODEL]);
  expect(out).toContain('Deposited  {"amount":7}  by desk\n         balance: 5 → 12\n');
  expect(out.indexOf("5 → 12")).toBeLessThan(out.indexOf("0 → 5"));
  expect((await cli(["diff", ...ada, "1", "3", "--app", MODEL])).out).toBe("         balance: 0 → 12\n");
  expect((await cli(["diff", ...ada, "2", "2", "--app", MODEL])).out).toBe("no difference\n");
  const past = await cli(["projections", directory, "totals", "--at-position", "4", "--app", MODEL, "--jsonl"]);
  expect(JSON.parse(past.out)).toEqual({ total: 5 });
  expect(await cli(["diff", ...ada, "1", "9", "--app", MODEL])).toMatchObject({ code: 2 });
});

test("check-replay lists what new code makes of a store", async () => {
  const directory = await filledStore();
  expect(await cli(["check-replay", directory, "--old", MODEL, "--app", MODEL])).toMatchObject({
    code: 0,
    out: "no difference\n",
  });
  const changed = path.join(temporaryDirectory(), "model.ts");
  const source = fs.readFileSync(path.join(import.meta.dirname, "../support/account.ts"), "utf8");
  const library = pathToFileURL(path.join(import.meta.dirname, "../../src/index.ts")).href;
  fs.writeFileSync(
    changed,
    source.replace("s.balance + amount", "s.balance + amount + 1").replace('"eventfold-es"', JSON.stringify(library)),
  );
  const { code, out } = await cli(["check-replay", directory, "--old", MODEL, "--app", changed]);
  expect(code).toBe(1);
  expect(out).toContain("instance account/ada\n");
  expect(out).toContain("balance: 5 → 6\n");
});

test("a reading command changes nothing in the store, open or closed", async () => {
  const directory = await filledStore();
  const times = (): string[] =>
    [...treeOf(directory).keys()].map((name) => `${name} ${fs.statSync(path.join(directory, name)).mtimeMs}`);
  const reading = [
    ["streams", directory],
    ["events", directory, "--app", MODEL],
    ["show", directory, "account", "ada", "--app", MODEL],
    ["stats", directory, "--app", MODEL],
    ["projections", directory, "totals", "--app", MODEL],
    ["process-managers", directory, "--app", MODEL],
    ["schedules", directory],
    ["dead-letters", "list", directory],
    ["verify", directory],
    ["repair", directory],
    ["export", directory],
  ];
  for (const isOpen of [false, true]) {
    const app = isOpen ? await AggregateStore.builder(directory).aggregate(Account).open() : undefined;
    const before = { tree: treeOf(directory), times: times() };
    for (const args of reading) {
      const { code, err } = await cli(args);
      expect({ args, code, err }).toEqual({ args, code: 0, err: "" });
    }
    expect({ tree: treeOf(directory), times: times() }).toEqual(before);
    await app?.close();
  }
});

test("output is coloured on a terminal only, never with NO_COLOR, and fits the terminal", async () => {
  const directory = await filledStore();
  const piped = await cli(["events", directory]);
  expect(piped.out).not.toContain("\u001b");
  expect((await cli(["events", directory], { env: { CI: "1" } })).out).not.toContain("\u001b");
  expect((await cli(["events", directory], { columns: 200 })).out).toContain("\u001b[");
  const narrow = await cli(["events", directory], { columns: 50, env: { NO_COLOR: "1" } });
  expect(narrow.out).not.toContain("\u001b");
  for (const line of narrow.out.split("\n")) expect(line.length).toBeLessThanOrEqual(50);
  const table = await cli(["streams", directory], { columns: 14, env: { NO_COLOR: "1" } });
  for (const line of table.out.split("\n")) expect(line.length).toBeLessThanOrEqual(16);
});

test("text of a store cannot control the terminal", async () => {
  const directory = temporaryDirectory();
  {
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    await store.get(Account, "\u001b[2Jevil\u202e").execute(Open({ owner: "\u001b]0;title\u0007 \u009b31m" }));
  }
  for (const args of [
    ["events", directory],
    ["streams", directory],
    ["verify", directory],
  ]) {
    const { out } = await cli(args);
    // oxlint-disable-next-line no-control-regex -- this is what is looked for
    expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  }
});
