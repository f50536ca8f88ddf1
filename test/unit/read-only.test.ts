import {
  aggregate,
  AggregateStore,
  CommandBus,
  data,
  memory,
  type ErrorCode,
  processManager,
  projection,
} from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import { openNodeFileSystem } from "eventfold-es/testing";
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { lockHolders } from "../../src/fs/lock-holders.ts";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { refusingWrites } from "../support/refusing-file-system.ts";
import { Sink } from "../support/relay.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";
import { Worker } from "../support/worker.ts";

/** Everything of a directory that a writer could change: names, bytes, times, rights. Times of reading are left out. */
function treeOf(directory: string): Record<string, unknown> {
  const tree: Record<string, unknown> = {};
  for (const name of ["", ...(fs.readdirSync(directory, { recursive: true }) as string[])]) {
    const file = path.join(directory, name);
    const { mtimeNs, ctimeNs, ino, mode, size } = fs.statSync(file, { bigint: true });
    const content = fs.statSync(file).isDirectory() ? undefined : fs.readFileSync(file, "latin1");
    tree[name] = { mtimeNs, ctimeNs, ino, mode, size, content };
  }
  return tree;
}

const Total = projection("total", () => ({ sum: 0 })).on(Account, {
  Deposited: (state, { data: { amount } }) => void (state.sum += amount),
});
const Receipts = processManager("receipts", { dispatches: [Sink] }).on(Account, {
  Deposited: (_, { data: { amount } }) => ({ dispatch: [Sink.at("all").Take({ n: amount })] }),
});
const bank = (storage: Parameters<typeof AggregateStore.builder>[0]) =>
  AggregateStore.builder(storage).aggregate(Account).aggregate(Sink).projection(Total).processManager(Receipts);

const open = Account.commands.Open({ owner: "Ada" });
const deposit = (amount: number) => Account.commands.Deposit({ amount });

/** A store with snapshots, checkpoints, notes and dead letters, closed. */
async function filled(directory: string): Promise<void> {
  await using store = await bank(directory).open();
  const ada = store.get(Account, "ada");
  await ada.execute(open);
  for (let n = 0; n < 120; n++) await ada.execute(deposit(1));
  await ada.execute(deposit(666));
  await store.get(Account, "bob/ü").execute(open);
  await store.projection(Total);
  await store.idle();
  const subscription = store.subscribe({ name: "named" }, () => {});
  await store.idle();
  await subscription.close();
}

/** Uses every reading method of a store that only reads. */
async function readAll(directory: string, fileSystem?: Awaited<ReturnType<typeof openNodeFileSystem>>) {
  const builder = fileSystem === undefined ? bank(directory) : bank(directory).fileSystem(fileSystem);
  await using store = await builder.readOnly().open();
  const types: string[] = [];
  for await (const event of store.events()) types.push(event.type);
  const versions: number[] = [];
  for await (const event of store.readEvents("account", "ada")) versions.push(event.version);
  let delivered = 0;
  store.subscribe({}, () => void delivered++);
  await store.idle();
  const ada = store.get(Account, "ada");
  return {
    types,
    versions,
    delivered,
    state: await ada.state(),
    old: await ada.state({ version: 3 }),
    ids: await store.list(Account),
    sum: (await store.projection(Total)).sum,
    letters: (await store.deadLetters()).length,
    status: await store.status(),
    head: await store.head(),
  };
}

describe("a store that only reads", () => {
  test("changes no byte, name or time of its directory, and calls nothing that could", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const before = treeOf(directory);
    const refused: string[] = [];
    const found = await readAll(directory, refusingWrites(await openNodeFileSystem(), refused));
    expect(found).toMatchObject({ state: { balance: 786 }, old: { balance: 2 }, sum: 786, letters: 1 });
    expect(found).toMatchObject({ ids: ["ada", "bob/ü"], head: found.types.length, delivered: found.types.length });
    expect(found.versions).toHaveLength(122);
    expect(found.status.subscriptions).toHaveLength(1);
    expect(refused).toEqual([]);
    expect(treeOf(directory)).toEqual(before);
    expect(await readAll(directory)).toEqual(found);
    expect(treeOf(directory)).toEqual(before);
  });

  test("needs neither the files of meta/ nor the caches", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const found = await readAll(directory);
    for (const name of ["meta", "projections", "process_managers", "subscriptions", "aggregates"])
      fs.rmSync(path.join(directory, name), { recursive: true, force: true });
    const before = treeOf(directory);
    const { status, letters: _, ...again } = await readAll(directory);
    expect({ ...again, status: 0, letters: 1 }).toEqual({ ...found, status: 0 });
    expect(status.head).toBe(found.head);
    expect(treeOf(directory)).toEqual(before);
  });

  test("uses a valid checkpoint, and folds again past one of other code", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const Doubled = projection("total", () => ({ sum: 0 })).on(Account, {
      Deposited: (state, { data: { amount } }) => void (state.sum += 2 * amount),
    });
    const before = treeOf(directory);
    await using store = await AggregateStore.builder(directory)
      .aggregate(Account)
      .projection(Doubled)
      .readOnly()
      .open();
    expect((await store.projection(Doubled)).sum).toBe(2 * 786);
    expect(treeOf(directory)).toEqual(before);
  });
});

describe.each(backends.filter(({ backend }) => backend === "on disk" || backend === "in memory"))(
  "reading only $backend",
  ({ backend }) => {
    async function pair() {
      const storage = backend === "on disk" ? temporaryDirectory() : memory();
      const writer = await bank(storage).open();
      onTestFinished(() => writer.close());
      await writer.get(Account, "ada").execute(open);
      const reader = await bank(storage).readOnly().open();
      onTestFinished(() => reader.close());
      return { writer, reader };
    }

    test("follows what another store writes: states, events, projections and subscriptions", async () => {
      const { writer, reader } = await pair();
      const ada = reader.get(Account, "ada");
      const loop = reader.subscribe({ aggregates: [Account] })[Symbol.asyncIterator]();
      const handled: number[] = [];
      reader.subscribe({ aggregates: [Account] }, ({ position }) => void handled.push(position));
      for (let n = 1; n <= 20; n++) {
        const { position } = await writer.get(Account, "ada").execute(deposit(1));
        expect((await ada.state()).balance).toBe(n);
        expect((await reader.projection(Total, { after: position })).sum).toBe(n);
        expect(await reader.head()).toBeGreaterThanOrEqual(position);
        expect((await loop.next()).value).toMatchObject({ aggregate: "account" });
      }
      await writer.get(Account, "new").execute(open);
      expect(await reader.list(Account)).toEqual(["ada", "new"]);
      await reader.idle();
      expect(handled).toHaveLength(22);
      await loop.return?.();
    });

    test("runs no process manager", async () => {
      const { writer, reader } = await pair();
      await writer.close();
      await reader.idle();
      expect(await reader.list(Sink)).toEqual([]);
    });

    test("fails every call that would write with READ_ONLY, also commands that would be rejected or change nothing", async () => {
      const { reader } = await pair();
      const ada = reader.get(Account, "ada");
      const bus = new CommandBus(reader).register(Account);
      const calls: (() => unknown)[] = [
        () => ada.execute(deposit(1)),
        () => ada.execute(open),
        () => ada.try(Account.commands.Withdraw({ amount: 1e9 })),
        () => ada.execute(deposit(1), { timeout: "1h" }),
        () => reader.dispatch(Account.at("ada").Deposit({ amount: 1 }), { timeout: "1h" }),
        () => reader.dispatchAll([Account.at("ada").Deposit({ amount: 1 })]),
        () => bus.dispatch("ada", deposit(1)),
        () => bus.dispatchUnknown({ aggregate: "account", id: "ada", command: { type: "Close" } }),
        () => reader.injectEvent(Account, "ada", { type: "Deposited", data: { amount: 1 }, eventId: "e-1" } as never),
        () => reader.runProcessManagers(),
        () => reader.rebuildProjection(Total),
        () => reader.dropSnapshots(Account),
        () => reader.replayDeadLetter("key"),
        () => reader.dropDeadLetter("key"),
        () => reader.delete(Account, "ada"),
        () => reader.import([]),
        () => reader.schedule(Account.at("ada").Close(), { at: new Date(), key: "key" } as never),
        () => reader.cancelSchedule("key"),
        ...(backend === "on disk" ? [() => reader.backup(temporaryDirectory())] : []),
        () => reader.subscribe({ name: "named" }),
        () => reader.subscribe({ name: "named" }, () => {}),
      ];
      for (const call of calls) {
        const error: unknown = await (async () => call())().then(
          () => `${call.toString()} succeeded`,
          (thrown: unknown) => thrown,
        );
        expect(error, call.toString()).toMatchObject({ code: "READ_ONLY" satisfies ErrorCode });
        expect((error as Error).message).toContain("open the store without readOnly()");
      }
      expect((await ada.state()).balance).toBe(0);
      expect(await reader.head()).toBe(1);
    });

    test("says STORE_CLOSED when it is closed", async () => {
      const { reader } = await pair();
      await reader.close();
      await expect(reader.head()).rejects.toMatchObject({ code: "STORE_CLOSED" });
      await expect(reader.dispatch(Account.at("ada").Open({ owner: "" }))).rejects.toMatchObject({
        code: "STORE_CLOSED",
      });
    });
  },
);

describe("reading only", () => {
  test.runIf(process.getuid?.() === 0)(
    "works for another user, who may not write, in a read-only directory",
    async () => {
      const directory = path.join(temporaryDirectory(), "store");
      await filled(directory);
      fs.chmodSync(path.dirname(directory), 0o755);
      for (const name of fs.readdirSync(directory, { recursive: true }) as string[])
        fs.chmodSync(path.join(directory, name), fs.statSync(path.join(directory, name)).isDirectory() ? 0o555 : 0o444);
      fs.chmodSync(directory, 0o555);
      const before = treeOf(directory);
      const worker = new Worker("other-user-worker.ts", { directory, uid: 65534 });
      const seen = JSON.parse(await worker.line()) as Record<string, unknown>;
      expect(seen).toMatchObject({ uid: 65534, refused: "IO_ERROR", balance: 786, sum: 786 });
      expect(seen["events"]).toHaveLength((await readAll(directory)).types.length);
      expect(treeOf(directory)).toEqual(before);
    },
  );

  test("sees all commits that a killed process has acknowledged, and what recovery will make of the others", async () => {
    const directory = temporaryDirectory();
    await (await bank(directory).open()).close();
    for (let round = 0; round < 3; round++) {
      const ids = ["a", "b", "c"].map((id) => `${id}${round}`);
      await using setUp = await AggregateStore.builder(directory).aggregate(Account).open();
      for (const id of ids) await setUp.get(Account, id).execute(open);
      await setUp.close();
      const worker = new Worker("deposit-worker.ts", { directory, ids, commands: 1e6, pace: "one by one" });
      await worker.line();
      worker.send("go");
      await using watching = await AggregateStore.builder(directory).aggregate(Account).readOnly().open();
      const start = await watching.head();
      await until(async () => (await watching.head()) > start + 20);
      await worker.kill();
      const before = treeOf(directory);
      await using fresh = await AggregateStore.builder(directory).aggregate(Account).readOnly().open();
      const states = async (store: typeof fresh) =>
        Promise.all(ids.map(async (id) => (await store.get(Account, id).state()).balance));
      const found = [await fresh.head(), ...(await states(fresh))];
      expect([await watching.head(), ...(await states(watching))]).toEqual(found);
      expect(treeOf(directory)).toEqual(before);
      await using recovered = await AggregateStore.builder(directory).aggregate(Account).open();
      expect([await recovered.head(), ...(await states(recovered))]).toEqual(found);
      // Both go on after the recovery.
      await recovered.get(Account, ids[0] ?? "").execute(deposit(1000));
      expect(await states(fresh)).toEqual(await states(recovered));
      expect(await states(watching)).toEqual(await states(recovered));
    }
  });

  test.runIf(process.platform === "linux")("waits for no lock, also while its holder is stopped", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const lock = `${directory}/meta/lock`;
    const worker = new Worker("lock-worker.ts", { path: lock });
    await worker.line();
    worker.process.kill("SIGSTOP");
    await until(() => lockHolders(lock).holders[0]?.state === "stopped");
    expect((await readAll(directory)).state).toMatchObject({ balance: 786 });
  });

  test("refuses a path without a store, and makes none", async () => {
    const directory = temporaryDirectory();
    const missing = path.join(directory, "missing");
    const file = path.join(directory, "file");
    fs.writeFileSync(file, "");
    for (const [place, found] of [
      [missing, "found nothing"],
      [directory, "found a directory without"],
      [file, "found a file"],
    ] as const)
      await expect(bank(place).readOnly().open()).rejects.toMatchObject({
        code: "STORE_NOT_FOUND",
        message: expect.stringContaining(found) as string,
      });
    expect(fs.readdirSync(directory)).toEqual(["file"]);
  });

  test("opens a store without events, and sees the first ones", async () => {
    const directory = temporaryDirectory();
    await using writer = await bank(directory).processManagerMode("manual").open();
    await using reader = await bank(directory).readOnly().open();
    expect(await reader.head()).toBe(0);
    const ada = reader.get(Account, "ada");
    expect(await ada.state()).toMatchObject({ open: false });
    await writer.get(Account, "ada").execute(open);
    expect(await ada.state()).toMatchObject({ open: true });
  });

  test("reads a directory of the Rust crate that was never opened, without writing, until another store gives it an order", async () => {
    const directory = temporaryDirectory();
    const Crate = aggregate("tally", {
      initial: { sum: 0 },
      events: { Added: data<{ n: number }>() },
      commands: { Add: data<{ n: number }>() },
    }).define({
      handle: { Add: ({ data: d, emit }) => emit.Added(d) },
      apply: { Added: ({ sum }, { n }) => ({ sum: sum + n }) },
    });
    const Sums = projection("sums", () => ({ sum: 0 })).on(Crate, {
      Added: (state, { data: { n } }) => void (state.sum += n),
    });
    const line = (n: number, ts: number) => `${JSON.stringify({ type: "Added", data: { n }, ts, id: `crate-${n}` })}\n`;
    for (const [id, text] of Object.entries({ a: line(1, 10) + line(4, 40), b: line(2, 20) + line(3, 30) })) {
      fs.mkdirSync(path.join(directory, "streams/tally", id), { recursive: true });
      fs.writeFileSync(path.join(directory, "streams/tally", id, "app.jsonl"), text);
    }
    const builder = AggregateStore.builder(directory).aggregate(Crate).projection(Sums);
    const before = treeOf(directory);
    await using reader = await builder
      .fileSystem(refusingWrites(await openNodeFileSystem()))
      .readOnly()
      .open();
    const order: number[] = [];
    for await (const event of reader.events()) order.push((event.data as { n: number }).n);
    expect(order).toEqual([1, 2, 3, 4]);
    expect(await reader.get(Crate, "a").state()).toEqual({ sum: 5 });
    expect((await reader.projection(Sums)).sum).toBe(10);
    expect(await reader.list(Crate)).toEqual(["a", "b"]);
    expect(treeOf(directory)).toEqual(before);
    await using writer = await builder.open();
    expect(await writer.head()).toBe(4);
    await until(() =>
      reader.head().then(
        () => false,
        (error: unknown) => (error as { readonly code?: string }).code === "STORE_REPLACED",
      ),
    );
  });

  test("leaves lines of the Rust crate out that no store has adopted, and gets them with their position", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    await using reader = await bank(directory).readOnly().open();
    const ada = reader.get(Account, "ada");
    const { balance } = await ada.state();
    const file = path.join(directory, "streams/account/ada/app.jsonl");
    fs.appendFileSync(file, `{"type":"Deposited","data":{"amount":7},"ts":1800000000}\n`);
    await using fresh = await bank(directory).readOnly().open();
    for (const store of [reader, fresh]) expect((await store.get(Account, "ada").state()).balance).toBe(balance);
    await using writer = await bank(directory).open();
    expect((await writer.get(Account, "ada").state()).balance).toBe(balance + 7);
    for (const store of [reader, fresh]) expect((await store.get(Account, "ada").state()).balance).toBe(balance + 7);
  });

  test("says STORE_REPLACED when the directory is another one", async () => {
    const directory = path.join(temporaryDirectory(), "store");
    await filled(directory);
    await using reader = await bank(directory).readOnly().open();
    fs.renameSync(directory, `${directory}.old`);
    await filled(directory);
    await until(() =>
      reader.head().then(
        () => false,
        (error: unknown) => (error as { readonly code?: string }).code === "STORE_REPLACED",
      ),
    );
  });

  test("reports a damaged log as a store that writes would", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const [segment = ""] = fs.readdirSync(path.join(directory, "commit_log"));
    const file = path.join(directory, "commit_log", segment);
    const bytes = fs.readFileSync(file);
    const at = bytes.indexOf('"amount":1', 3000) + 9;
    bytes.write("9", at);
    fs.writeFileSync(file, bytes);
    fs.rmSync(path.join(directory, "meta/marker.json"));
    await expect(bank(directory).readOnly().open()).rejects.toMatchObject({ code: "CORRUPT_LOG" });
  });

  test("is refused by a storage that cannot do it, before it is opened", async () => {
    let opened = 0;
    const custom = { name: "custom()", open: async () => Promise.reject(new Error(`opened ${++opened} times`)) };
    for (const storage of [custom, postgres({ pool: { connect: () => {} } as never })]) {
      await expect(AggregateStore.builder(storage).readOnly().open()).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(storage.name) as string,
      });
    }
    expect(opened).toBe(0);
  });
});
