import { aggregate, AggregateStore, data } from "eventfold-es";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { cli } from "../support/cli.ts";
import { logSegments, streamFile, treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";

const ROOT = path.join(import.meta.dirname, "../..");
const MODEL = path.join(ROOT, "test/support/cli-model.ts");
const { Open, Deposit } = Account.commands;

async function filledStore(): Promise<string> {
  const directory = temporaryDirectory();
  await using store = await AggregateStore.builder(directory).aggregate(Account).open();
  for (const id of ["ada", "bob"]) await store.get(Account, id).execute(Open({ owner: id }));
  for (const amount of [5, 7]) await store.get(Account, "ada").execute(Deposit({ amount }));
  return directory;
}

test.each([
  ["no arguments that a command needs", ["events"], 2, "missing required argument"],
  ["an unknown command", ["evnts", "x"], 2, "Did you mean events?"],
  ["an unknown option", ["events", "x", "--frm", "2"], 2, "Did you mean --from?"],
  ["a bad number", ["events", "x", "--limit", "many"], 2, "Expected a whole number"],
  ["two formats", ["events", "x", "--json", "--jsonl"], 2, "cannot be used with option"],
  ["no store", ["events", "/nowhere/at/all"], 3, "found nothing there"],
  ["a file instead of a store", ["stats", import.meta.filename], 3, "found a file"],
  ["a directory that is no store", ["verify", import.meta.dirname], 3, "without commit_log/"],
  ["a module that is not there", ["stats", "x", "--app", "./nothing.js"], 2, "expected a module"],
  [
    "a module without definitions",
    ["stats", "x", "--app", import.meta.filename.replace("writing.test", "../support/until")],
    2,
    "to export aggregates",
  ],
])("%s: exit code and words", async (_, args, code, words) => {
  const result = await cli(args);
  expect(result.err).toContain(words);
  expect(result).toMatchObject({ code, out: "" });
});

test("help has examples and is no failure", async () => {
  for (const args of [["--help"], ["events", "--help"], ["dead-letters", "replay", "--help"]])
    expect(await cli(args)).toMatchObject({
      code: 0,
      err: "",
      out: expect.stringMatching(/Usage: eventfold/) as string,
    });
  expect((await cli(["events", "--help"])).out).toContain("Examples:");
  expect((await cli(["--version"])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test("verify finds damage with exit code 1, repair says first what it would do, then does it", async () => {
  const directory = await filledStore();
  const file = streamFile(directory, "account", "ada");
  fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace('"amount":5', '"amount":6'));
  const damaged = treeOf(directory);
  const found = await cli(["verify", directory]);
  expect(found).toMatchObject({ code: 1, out: expect.stringContaining("stream-damaged") as string });
  const plan = await cli(["repair", directory]);
  expect(plan).toMatchObject({ code: 1, out: expect.stringContaining("run again with --apply") as string });
  expect(treeOf(directory)).toEqual(damaged);
  expect((await cli(["repair", directory, "--apply"])).code).toBe(0);
  expect(await cli(["verify", directory])).toMatchObject({ code: 0, out: expect.stringContaining("clean") as string });
});

test("a store whose log is damaged cannot be read: exit code 3", async () => {
  const directory = await filledStore();
  const [segment = ""] = logSegments(directory);
  const bytes = fs.readFileSync(segment);
  bytes[60] = (bytes[60] ?? 0) ^ 1;
  fs.writeFileSync(segment, bytes);
  const { code, err } = await cli(["events", directory]);
  expect(code).toBe(3);
  expect(err).toContain("CORRUPT_LOG");
});

test("backup, restore, compare, export and import copy a store", async () => {
  const directory = await filledStore();
  const copies = temporaryDirectory();
  const at = (name: string): string => path.join(copies, name);
  expect((await cli(["backup", directory, at("backup")])).code).toBe(0);
  expect((await cli(["restore", at("backup"), at("restored")])).code).toBe(0);
  expect((await cli(["compare", directory, at("restored")])).out).toBe("equal: 4 events\n");
  expect((await cli(["restore", at("backup"), at("earlier"), "--position", "2"])).code).toBe(0);
  const different = await cli(["compare", directory, at("earlier")]);
  expect(different).toMatchObject({ code: 1, out: expect.stringContaining("no more events") as string });
  expect(await cli(["restore", at("backup"), at("restored")])).toMatchObject({ code: 2 });

  const { out } = await cli(["export", directory]);
  fs.writeFileSync(at("export.jsonl"), out);
  expect((await cli(["import", at("imported"), at("export.jsonl")])).out).toContain("imported 4 events");
  expect((await cli(["import", at("imported"), at("export.jsonl")])).out).toContain(
    "imported 0 events, 4 were there already",
  );
  expect((await cli(["compare", directory, at("imported")])).code).toBe(0);
});

test("rebuild folds a projection again", async () => {
  const directory = await filledStore();
  const { out } = await cli(["rebuild", directory, "totals", "--app", MODEL]);
  expect(out).toBe("rebuilt totals up to position 4\n");
  const unknown = await cli(["rebuild", directory, "nothing", "--app", MODEL]);
  expect(unknown).toMatchObject({ code: 2, err: expect.stringContaining("found totals") as string });
});

test("delete deletes an instance, once", async () => {
  const directory = await filledStore();
  const remove = ["delete", directory, "account", "bob", "--reason", "closed", "--app", MODEL];
  expect(await cli(remove)).toMatchObject({ code: 0, out: "deleted account/bob\n" });
  expect((await cli(["streams", directory])).out).toBe("aggregate  id\naccount    ada\n");
  expect(await cli(remove)).toMatchObject({ code: 1 });
});

test("reclaim removes the events of deleted instances, and says what it keeps", async () => {
  const directory = await filledStore();
  await cli(["delete", directory, "account", "ada", "--app", MODEL]);
  expect(await cli(["reclaim", directory])).toMatchObject({
    code: 0,
    out: expect.stringContaining("removed 3 events") as string,
  });
  expect(JSON.parse((await cli(["reclaim", directory, "--json"])).out)).toMatchObject({
    done: true,
    events: 0,
    kept: 0,
  });
  expect((await cli(["events", directory])).out).not.toContain("Deposited");
  expect((await cli(["verify", directory])).code).toBe(0);
  expect((await cli(["reclaim", directory, "--budget", "soon"])).code).toBeGreaterThan(0);
});

test("dead letters are listed, shown, edited, replayed and dropped", async () => {
  const directory = temporaryDirectory();
  {
    const builder = AggregateStore.builder(directory).aggregate(Purse).aggregate(Transfer).processManager(Transfers);
    await using store = await builder.processManagerMode("manual").open();
    for (const id of ["t1", "t2", "t3"])
      await store.dispatch(Transfer.at(id).Request({ from: "poor", to: "rich", amount: 5 }));
    await store.runProcessManagers();
  }
  const list = await cli(["dead-letters", "list", directory, "--app", MODEL, "--json"]);
  expect(list.code).toBe(1);
  const [first, second, third] = JSON.parse(list.out) as { key: string }[];
  const shown = await cli(["dead-letters", "show", directory, first?.key ?? "", "--app", MODEL]);
  expect(JSON.parse(shown.out)).toMatchObject({
    aggregate: "purse",
    id: "poor",
    events: [{ type: "Requested", id: "t1" }],
  });
  const again = await cli(["dead-letters", "replay", directory, first?.key ?? "", "--app", MODEL]);
  expect(again).toMatchObject({ code: 1, err: expect.stringContaining("COMMAND_REJECTED") as string });
  {
    await using store = await AggregateStore.builder(directory).aggregate(Purse).open();
    await store.dispatch(Purse.at("poor").Fill({ amount: 5 }));
  }
  expect((await cli(["dead-letters", "replay", directory, first?.key ?? "", "--app", MODEL])).code).toBe(0);
  // Nothing is left in the purse.
  const edit = (payload: string, ...more: string[]) =>
    cli(["dead-letters", "edit", directory, second?.key ?? "", "--data", payload, "--app", MODEL, ...more]);
  expect(await edit('{"amount":', "--apply")).toMatchObject({ code: 2 });
  expect((await edit('{"amount":0}')).out).toContain("nothing was sent");
  expect(await edit('{"amount":7}', "--apply")).toMatchObject({ code: 1 });
  expect((await cli(["dead-letters", "list", directory, "--app", MODEL])).out).toContain(second?.key ?? "");
  const payloads = [5, 0].map((amount) => JSON.stringify({ amount, transfer: "t2" }));
  const sent = await edit(payloads[1] ?? "", "--apply");
  expect(sent.out).toBe(`Take of purse/poor\n- ${payloads[0]}\n+ ${payloads[1]}\nsent the command of ${second?.key}\n`);
  expect(await edit('{"amount":0}', "--apply")).toMatchObject({ code: 1 });
  expect((await cli(["dead-letters", "drop", directory, third?.key ?? "", "--app", MODEL])).code).toBe(0);
  expect((await cli(["dead-letters", "list", directory, "--app", MODEL])).code).toBe(0);
  const schedules = await cli(["schedules", directory, "--app", MODEL, "--json"]);
  expect((JSON.parse(schedules.out) as { key: string }[]).map(({ key }) => key)).toEqual(["t1", "t2", "t3"]);
});

/** The command line as a process of its own. */
function start(args: readonly string[]) {
  const flags = ["--import", "tsx", "--conditions=eventfold-es-source", "src/cli/main.ts"];
  const child = spawn(process.execPath, [...flags, ...args], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, exited, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
}

test("tail prints the last events, then those of another process, until it is interrupted", async () => {
  const directory = await filledStore();
  const { child, exited, lines } = start(["tail", directory, "-n", "1", "--jsonl"]);
  const next = async (): Promise<unknown> => JSON.parse((await lines.next()).value as string);
  expect(await next()).toMatchObject({ position: 4 });
  await using store = await AggregateStore.builder(directory).aggregate(Account).open();
  for (const amount of [1, 2]) await store.get(Account, "bob").execute(Deposit({ amount }));
  expect([await next(), await next()]).toMatchObject([{ position: 5 }, { position: 6 }]);
  child.kill("SIGINT");
  expect(await exited).toBe(0);
});

test("a reader that has enough ends a long output", async () => {
  const directory = temporaryDirectory();
  {
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    await store.get(Account, "ada").execute(Open({ owner: "ada" }));
    const amounts = Array.from({ length: 20_000 }, () => 1);
    await store.get(Account, "ada").execute(Account.commands.Split({ amounts }));
  }
  const { child, exited, lines } = start(["events", directory]);
  await lines.next();
  child.stdout.destroy();
  expect(await exited).toBe(0);
});

test("forget destroys the key of a person; events shows what is left", async () => {
  const Person = aggregate("person", {
    initial: 0,
    events: { Named: data<{ name: string }>().personal((_, id) => `p-${id}`, { name: "(forgotten)" }) },
    commands: { Name: data<{ name: string }>() },
  }).define({ handle: { Name: ({ data: given, emit }) => emit.Named(given) }, apply: { Named: (n) => n + 1 } });
  const directory = temporaryDirectory();
  {
    await using store = await AggregateStore.builder(directory).aggregate(Person).open();
    for (const id of ["a", "b"]) await store.dispatch(Person.at(id).Name({ name: `name of ${id}` }));
  }
  const names = async (): Promise<unknown[]> =>
    (JSON.parse((await cli(["events", directory, "--json"])).out) as { data: { name: string } }[]).map(
      (event) => event.data.name,
    );
  expect(await names()).toEqual(["name of a", "name of b"]);
  expect(await cli(["forget", directory, "p-a"])).toMatchObject({ code: 0, out: "forgot p-a\n" });
  expect(await names()).toEqual(["(forgotten)", "name of b"]);
  const again = await cli(["forget", directory, "p-a"]);
  expect(again.code).toBe(1);
  expect(again.err).toContain("found none");
  expect((await cli(["stats", directory])).out).toMatch(/persons +1/);
  const [plain, withKeys, restored] = ["plain", "keys", "restored"].map((name) =>
    path.join(temporaryDirectory(), name),
  );
  expect((await cli(["backup", directory, plain ?? ""])).code).toBe(0);
  expect((await cli(["backup", directory, withKeys ?? "", "--keys"])).code).toBe(0);
  expect((await cli(["restore", withKeys ?? "", restored ?? "", "--keys"])).code).toBe(0);
  expect(fs.existsSync(path.join(plain ?? "", "keys"))).toBe(false);
  expect(fs.existsSync(path.join(restored ?? "", "keys/subjects.jsonl"))).toBe(true);
});
