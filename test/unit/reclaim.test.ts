import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { AggregateStore, memory, processManager, projection } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Balances = projection("balances", { byId: {} as Record<string, number>, events: 0 }).on(Account, {
  Opened: (s, e) => void ((s.byId[e.id] = 0), s.events++),
  Deposited: (s, e) => void ((s.byId[e.id] = (s.byId[e.id] ?? 0) + e.data.amount), s.events++),
  $deleted: (s, e) => void delete s.byId[e.id],
});

const Echo = processManager("echo", { dispatches: [Counter] }).on(Account, {
  Deposited: (_state, e) => Counter.at(e.id).Add({ by: e.data.amount }),
});

const into = ({ open, balance }: { readonly open: boolean; readonly balance: number }) => [
  ...(open ? [Account.events.Opened({ owner: "kept" })] : []),
  Account.events.Deposited({ amount: balance }),
];

const open = (directory: string) =>
  AggregateStore.builder(directory)
    .aggregate(Account)
    .aggregate(Counter)
    .projection(Balances)
    .processManager(Echo)
    .processManagerMode("manual")
    .open();

const SECRET = "a name that must go";

/** The files below a directory in which a text is found, compressed ones decompressed. */
function filesWith(directory: string, text: string): string[] {
  return [...treeOf(directory)]
    .filter(([path, bytes]) => {
      const content = path.endsWith(".gz")
        ? execFileSync("gzip", ["-dc"], { input: bytes, maxBuffer: 1 << 30 })
        : bytes;
      return content.includes(text) || bytes.includes(text);
    })
    .map(([path]) => path);
}

async function filled(directory: string) {
  const store = await open(directory);
  const ada = store.get(Account, "ada");
  await ada.execute(Account.commands.Open({ owner: SECRET }));
  for (let i = 0; i < 3; i++) await ada.execute(Account.commands.Deposit({ amount: 1 }));
  const bob = store.get(Account, "bob");
  await bob.execute(Account.commands.Open({ owner: "Bob" }));
  await bob.execute(Account.commands.Deposit({ amount: 5 }));
  await store.projection(Balances);
  await store.runProcessManagers();
  return { store, ada, bob };
}

describe("reclaim", () => {
  test("leaves nothing of a deleted instance's events in the directory", async () => {
    const directory = temporaryDirectory();
    const { store } = await filled(directory);
    await store.close();
    await using again = await open(directory);
    await again.projection(Balances);
    await again.get(Account, "ada").execute(Account.commands.Deposit({ amount: 1 }));
    await again.delete(Account, "ada");
    expect(filesWith(directory, SECRET)).not.toEqual([]);
    expect(await again.reclaim()).toMatchObject({ done: true, events: 5, kept: 0, keptFor: [] });
    expect(filesWith(directory, SECRET)).toEqual([]);
    expect(await again.reclaim()).toMatchObject({ done: true, events: 0 });
    expect(await again.get(Account, "bob").state()).toEqual({ open: true, balance: 5 });
    expect((await again.projection(Balances)).byId).toEqual({ bob: 5 });
    await again.rebuildProjection(Balances);
    expect((await again.projection(Balances)).byId).toEqual({ bob: 5 });
    expect(await verify(directory)).toMatchObject({ clean: true });
    expect(await again.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }))).toMatchObject({
      version: 7,
    });
  });

  test("removes dead letters of a deleted instance, and what is quarantined of it", async () => {
    const Refusing = processManager("refusing", { dispatches: [Account] }).on(Account, {
      Opened: (_state, e) => Account.at(`${e.id}-copy`).Withdraw({ amount: e.data.owner.length }),
    });
    const directory = temporaryDirectory();
    const build = () =>
      AggregateStore.builder(directory).aggregate(Account).processManager(Refusing).processManagerMode("manual").open();
    const store = await build();
    for (const id of ["ada", "bob"])
      await store.get(Account, id).execute(Account.commands.Open({ owner: "x".repeat(4711) }));
    await store.runProcessManagers();
    expect(await store.deadLetters()).toMatchObject([{ id: "ada-copy" }, { id: "bob-copy" }]);
    fs.mkdirSync(`${directory}/meta/quarantine`);
    for (const [name, text] of [
      ["account.ada.12", "torn"],
      ["account.adam.12", "another's"],
      ["commit_log.1.500", '{"stream":"account/ada","version":2}'],
      ["commit_log.1.900", '{"stream":"account/bob","version":2}'],
    ] as const)
      fs.writeFileSync(`${directory}/meta/quarantine/${name}`, text);
    await store.delete(Account, "ada");
    await store.reclaim();
    expect(await store.deadLetters()).toMatchObject([{ id: "bob-copy" }]);
    expect(fs.readdirSync(`${directory}/meta/quarantine`).sort()).toEqual(["account.adam.12", "commit_log.1.900"]);
    expect(filesWith(directory, "ada-copy")).toEqual([]);
    expect(filesWith(directory, "bob-copy").length).toBeGreaterThan(1);
    await store.close();
    expect((await verify(directory)).findings.filter(({ severity }) => severity !== "info")).toEqual([]);
    fs.rmSync(`${directory}/process_managers`, { recursive: true });
    fs.rmSync(`${directory}/meta/marker.json`);
    await using again = await build();
    expect(await again.deadLetters()).toMatchObject([{ id: "bob-copy" }]);
    expect(await again.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("can be followed by restarts without caches, and without a log", async () => {
    const directory = temporaryDirectory();
    const { store } = await filled(directory);
    await store.delete(Account, "ada");
    await store.compact(Account, "bob", { into });
    await store.runProcessManagers();
    await store.reclaim();
    await store.get(Account, "cyd").execute(Account.commands.Open({ owner: "Cyd" }));
    await store.delete(Account, "cyd");
    await store.close();
    expect(await verify(directory)).toMatchObject({ clean: true, findings: [] });
    for (const lost of [["marker.json"], ["cuts.json"], ["stream_ends"], ["head"], ["streams.jsonl"]]) {
      for (const name of lost) fs.rmSync(`${directory}/meta/${name}`);
      fs.rmSync(`${directory}/projections`, { recursive: true, force: true });
      await using again = await open(directory);
      expect(await again.get(Account, "bob").state()).toEqual({ open: true, balance: 5 });
      expect(await again.projection(Balances)).toEqual({ byId: { bob: 5 }, events: 2 });
      expect(await again.list(Account)).toEqual(["bob"]);
    }
    const copy = `${directory}-copy`;
    fs.cpSync(directory, copy, { recursive: true });
    fs.rmSync(`${copy}/commit_log`, { recursive: true });
    {
      await using rebuilt = await open(copy);
      expect((await rebuilt.projection(Balances)).byId).toEqual({ bob: 5 });
      await rebuilt.rebuildProjection(Balances);
      expect(await rebuilt.projection(Balances)).toEqual({ byId: { bob: 5 }, events: 2 });
      expect(await rebuilt.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      expect(await rebuilt.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }))).toMatchObject({
        version: 6,
      });
    }
    // The notes of the manager were in the log only.
    const kinds = (await verify(copy)).findings.flatMap(({ kind, severity }) => (severity === "error" ? [kind] : []));
    expect(kinds).toEqual(["log-missing", "notes-lost"]);
    fs.rmSync(`${directory}/streams`, { recursive: true });
    fs.rmSync(`${directory}/meta/marker.json`);
    await using again = await open(directory);
    expect(await again.get(Account, "bob").state()).toEqual({ open: true, balance: 5 });
    expect(filesWith(directory, SECRET)).toEqual([]);
    expect(await verify(directory)).toMatchObject({ clean: true });
  });

  test("keeps what a process manager or a named subscription has not handled", async () => {
    const directory = temporaryDirectory();
    const { store, ada } = await filled(directory);
    for await (const event of store.subscribe({ name: "mail" })) if (event.position >= 4) break;
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into });
    const report = await store.reclaim();
    expect(report).toMatchObject({ events: 0, kept: 5 });
    expect([...report.keptFor].sort()).toEqual(["echo", "mail"]);
    expect(await store.runProcessManagers()).toMatchObject({ dispatched: 1 });
    expect(await store.reclaim()).toMatchObject({ kept: 2, keptFor: ["mail"] });
    const seen: number[] = [];
    for await (const event of store.subscribe({ name: "mail", aggregates: [Account] })) {
      seen.push(event.position);
      if (seen.length === 4) break;
    }
    expect(seen.length).toBe(4);
    await store.close();
    await using again = await open(directory);
    expect(await again.reclaim()).toMatchObject({ done: true });
    expect(await again.get(Counter, "ada").state()).toBe(4);
    expect(await again.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("lets a projection that was before a compaction start over", async () => {
    const directory = temporaryDirectory();
    const { store, ada } = await filled(directory);
    await store.close();
    const first = await AggregateStore.builder(directory).aggregate(Account).aggregate(Counter).open();
    await first.get(Account, "ada").execute(Account.commands.Deposit({ amount: 1 }));
    await first.compact(Account, "ada", { into });
    await first.close();
    void ada;
    await using again = await open(directory);
    await again.runProcessManagers();
    expect(await again.reclaim()).toMatchObject({ done: true, events: 5, kept: 0 });
    expect(await again.projection(Balances)).toEqual({ byId: { ada: 4, bob: 5 }, events: 4 });
  });

  test("gives a reader without a name an error when it takes the events from under it", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    for (let i = 0; i < 5; i++)
      await ada.execute(Account.commands.Split({ amounts: Array.from({ length: 500 }, () => 1) }));
    const reading = store.events()[Symbol.asyncIterator]();
    await reading.next();
    const errors: unknown[] = [];
    await store.compact(Account, "ada", { into });
    await store.reclaim();
    let count = 1;
    try {
      for (let next = await reading.next(); next.done !== true; next = await reading.next()) count++;
    } catch (error) {
      errors.push(error);
    }
    // The file that it has open is whole; a reader of another segment gets the error.
    if (errors.length === 0) expect(count).toBe(2501);
    else expect(errors).toMatchObject([{ code: "EVENTS_RECLAIMED" }]);
    await expect(store.projectionAt(Balances as never, 3)).rejects.toMatchObject({ code: "EVENTS_RECLAIMED" });
    expect((await collect(store.events())).length).toBe(2);
  });

  test("makes segments that gzip reads, and readers find the middle of", async () => {
    const directory = temporaryDirectory();
    const { store } = await filled(directory);
    await store.delete(Account, "ada");
    await store.reclaim();
    const before = await collect(store.events());
    await store.close();
    const [segment] = fs.readdirSync(`${directory}/commit_log`);
    expect(segment).toBe("0000000000000001.jsonl.gz");
    const text = execFileSync("gzip", ["-dc", `${directory}/commit_log/${segment}`]).toString();
    for (const line of text.split("\n")) if (line.trim() !== "") JSON.parse(line);
    expect(text).toContain("Bob");
    await using again = await open(directory);
    expect(await collect(again.events())).toEqual(before);
    expect((await collect(again.events({ from: 6 }))).map(({ position }) => position)[0]).toBe(6);
    expect(await again.status()).toMatchObject({ sizes: { reclaimable: 0 } });
  });

  test("is copied, restored and followed like any other store", async () => {
    const directory = temporaryDirectory();
    const copy = `${directory}-copy`;
    const { store, bob } = await filled(directory);
    await store.backup(copy);
    await store.delete(Account, "ada");
    await bob.execute(Account.commands.Deposit({ amount: 1 }));
    await store.reclaim();
    await bob.execute(Account.commands.Deposit({ amount: 1 }));
    await store.backup(copy, { incremental: true });
    await store.reclaim();
    await bob.execute(Account.commands.Deposit({ amount: 1 }));
    await store.backup(copy, { incremental: true });
    const fresh = `${directory}-fresh`;
    await store.backup(fresh);
    expect(filesWith(fresh, SECRET)).toEqual([]);
    const lines = await collect(store.export());
    const expected = await collect(store.events());
    await store.close();
    for (const target of [copy, fresh]) {
      expect(await verify(target)).toMatchObject({ clean: true });
      await using copied = await open(target);
      expect(await collect(copied.events())).toEqual(expected);
      expect(await copied.get(Account, "bob").state()).toEqual({ open: true, balance: 8 });
    }
    await using imported = await AggregateStore.builder(memory()).aggregate(Account).aggregate(Counter).open();
    expect(await imported.import(lines)).toMatchObject({ renumbered: false });
    expect(await collect(imported.events())).toEqual(expected);
  });

  test("is not for other storages, and one process at a time does it", async () => {
    await using other = await AggregateStore.builder(memory()).aggregate(Account).open();
    await expect(other.reclaim()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const directory = temporaryDirectory();
    await using here = await open(directory);
    await here.get(Account, "ada").execute(Account.commands.Open({ owner: "Ada" }));
    await here.delete(Account, "ada");
    const both = await Promise.allSettled([here.reclaim(), here.reclaim()]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await expect(here.reclaim({ signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
    expect(await here.reclaim({ budget: 0 })).toMatchObject({ done: expect.any(Boolean) });
    await expect(here.reclaim({ budget: "soon" as never })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
