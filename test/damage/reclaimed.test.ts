import * as fs from "node:fs";
import { AggregateStore } from "eventfold-es";
import { repair, verify } from "eventfold-es/doctor";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const open = (directory: string) => AggregateStore.builder(directory).aggregate(Account).open();

/** A store whose log is compressed, and lacks the lines of dropped events. */
async function reclaimedStore(): Promise<{ readonly directory: string; readonly expected: readonly unknown[] }> {
  const directory = temporaryDirectory();
  const store = await open(directory);
  for (const id of ["ada", "bob", "cyd"]) {
    await store.get(Account, id).execute(Account.commands.Open({ owner: id.repeat(20) }));
    await store.get(Account, id).execute(Account.commands.Deposit({ amount: 5 }));
  }
  await store.delete(Account, "ada");
  await store.compact(Account, "bob", {
    into: ({ balance }) => [Account.events.Opened({ owner: "bob" }), Account.events.Deposited({ amount: balance })],
  });
  await store.reclaim();
  await store.get(Account, "cyd").execute(Account.commands.Deposit({ amount: 1 }));
  const expected = await collect(store.events());
  await store.close();
  return { directory, expected };
}

test("a byte of a compressed segment that changes is found, and each event of which a stream has a copy is restored", async () => {
  const { directory, expected } = await reclaimedStore();
  const segment = "commit_log/0000000000000001.jsonl.gz";
  const sound = fs.readFileSync(`${directory}/${segment}`);
  expect(await verify(directory)).toMatchObject({ clean: true, findings: [] });
  for (let at = 0; at < sound.length; at += 23) {
    const copy = temporaryDirectory();
    fs.cpSync(directory, copy, { recursive: true });
    const damaged = Buffer.from(sound);
    damaged[at] = (damaged[at] ?? 0) ^ 0xff;
    fs.writeFileSync(`${copy}/${segment}`, damaged);
    expect((await verify(copy)).clean, `byte ${at}`).toBe(false);
    await repair(copy);
    await using store = await open(copy);
    const found = new Set((await collect(store.events())).map((event) => JSON.stringify(event)));
    for (const event of expected)
      expect(found.has(JSON.stringify(event)), `byte ${at}: ${JSON.stringify(event)}`).toBe(true);
    fs.rmSync(copy, { recursive: true });
  }
});

test("a store whose stream files are lost, or have zeros in them, is repaired from the compressed log", async () => {
  const { directory, expected } = await reclaimedStore();
  for (const damage of [
    (path: string) => fs.rmSync(path),
    (path: string) => fs.writeFileSync(path, Buffer.alloc(fs.statSync(path).size)),
    (path: string) => fs.truncateSync(path, 10),
  ]) {
    const copy = temporaryDirectory();
    fs.cpSync(directory, copy, { recursive: true });
    for (const id of ["ada", "bob", "cyd"]) damage(`${copy}/streams/account/${id}/app.jsonl`);
    expect((await verify(copy)).clean).toBe(false);
    await repair(copy);
    expect((await verify(copy)).findings.filter(({ severity }) => severity !== "info")).toEqual([]);
    await using store = await open(copy);
    expect(await collect(store.events())).toEqual(expected);
    expect(await store.get(Account, "bob").state()).toEqual({ open: true, balance: 5 });
  }
});
