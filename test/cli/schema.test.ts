import { AggregateStore } from "eventfold-es";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { cli } from "../support/cli.ts";
import { treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const SUPPORT = path.join(import.meta.dirname, "../support");
const MODEL = path.join(SUPPORT, "cli-model.ts");
const CHANGED = path.join(SUPPORT, "cli-changed-model.ts");

test("schema writes a lock file, and accepts the same model", async () => {
  const lock = path.join(temporaryDirectory(), "events.lock.json");
  expect(await cli(["schema", MODEL, "--lock", lock])).toEqual({ code: 0, out: `wrote ${lock}\n`, err: "" });
  expect(JSON.parse(fs.readFileSync(lock, "utf8"))).toMatchObject({
    aggregates: { account: { events: { Deposited: {} } } },
  });
  expect(await cli(["schema", MODEL, "--lock", lock, "--check"])).toEqual({ code: 0, out: "no difference\n", err: "" });
});

test("schema --check finds an event that is gone, and the lock file is replaced only with --force", async () => {
  const lock = path.join(temporaryDirectory(), "events.lock.json");
  await cli(["schema", MODEL, "--lock", lock]);
  const written = fs.readFileSync(lock, "utf8");
  const checked = await cli(["schema", CHANGED, "--lock", lock, "--check", "--json"]);
  expect(checked.code).toBe(1);
  expect(JSON.parse(checked.out)).toContainEqual(
    expect.objectContaining({ kind: "event-vanished", aggregate: "account", event: "Deposited" }),
  );
  expect(await cli(["schema", CHANGED, "--lock", lock])).toMatchObject({
    code: 1,
    err: expect.stringContaining("was not replaced") as string,
  });
  expect(fs.readFileSync(lock, "utf8")).toBe(written);
  expect((await cli(["schema", CHANGED, "--lock", lock, "--force"])).code).toBe(0);
  expect((await cli(["schema", CHANGED, "--lock", lock, "--check"])).code).toBe(0);
});

test("schema --store finds the events of a store that a model cannot read, and writes nothing", async () => {
  const directory = temporaryDirectory();
  {
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    for (const amount of [5, 7]) await ada.execute(Account.commands.Deposit({ amount }));
  }
  const before = treeOf(directory);
  expect(await cli(["schema", MODEL, "--store", directory])).toMatchObject({ code: 0, out: "no difference\n" });
  const found = await cli(["schema", CHANGED, "--store", directory]);
  expect(found).toMatchObject({ code: 1, err: "" });
  expect(found.out).toMatch(/^unknown {2}2 events from position 2 on: account "ada", version 2: .*Deposited\n$/);
  expect(treeOf(directory)).toEqual(before);
});

test.each([
  ["no lock file", [MODEL, "--lock", "/nowhere/events.lock.json", "--check"], 2, "expected the lock file"],
  ["no module", ["./nothing.js"], 2, "expected a module"],
  ["no store", [MODEL, "--store", "/nowhere/at/all"], 3, "found nothing there"],
])("schema with %s: exit code and words", async (_, args, code, words) => {
  const result = await cli(["schema", ...args]);
  expect(result).toMatchObject({ code, out: "" });
  expect(result.err).toContain(words);
});
