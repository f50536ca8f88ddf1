import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { AggregateStore, aggregate, data, processManager } from "eventfold-es";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";

let directory: string;
let remove: () => void;
let now = Date.UTC(2026, 0, 1);

beforeEach(() => {
  ({ path: directory, remove } = withRemoval());
  now = Date.UTC(2026, 0, 1);
});
afterEach(() => remove());

function withRemoval(): { path: string; remove: () => void } {
  const path = temporaryDirectory();
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

const open = (mode: "manual" | "automatic" = "manual") =>
  AggregateStore.builder(directory)
    .aggregate(Purse)
    .aggregate(Transfer)
    .processManager(Transfers)
    .processManagerMode(mode)
    .clock(() => now)
    .open();

type Store = Awaited<ReturnType<typeof open>>;

async function fillAndRequest(store: Store, transfers = 1): Promise<void> {
  await store.get(Purse, "a").execute(Purse.commands.Fill({ amount: 100 }));
  for (let i = 0; i < transfers; i++) {
    await store.get(Transfer, `t${i}`).execute(Transfer.commands.Request({ from: "a", to: "b", amount: 10 }));
  }
}

async function balances(store: Store): Promise<number[]> {
  return Promise.all(["a", "b"].map(async (id) => (await store.get(Purse, id).state()).balance));
}

async function countEvents(store: Store): Promise<number> {
  let count = 0;
  for (const { type, id } of await store.listStreams()) for await (const _ of store.readEvents(type, id)) count++;
  return count;
}

describe("process managers", () => {
  test("carry a transfer through, and report their commands", async () => {
    const store = await open();
    await fillAndRequest(store, 3);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 9, deadLettered: 0 });
    expect(await balances(store)).toEqual([70, 30]);
    expect((await store.get(Transfer, "t0").state()).status).toBe("done");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    await store.close();
  });

  test("run automatically while the store is open", async () => {
    const store = await open("automatic");
    await fillAndRequest(store);
    for (let i = 0; i < 200 && (await store.get(Transfer, "t0").state()).status !== "done"; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(await balances(store)).toEqual([90, 10]);
    await store.close();
  });

  test("pass correlation and causation on", async () => {
    const store = await open();
    await store.get(Purse, "a").execute(Purse.commands.Fill({ amount: 100 }));
    const { events } = await store
      .get(Transfer, "t")
      .execute(Transfer.commands.Request({ from: "a", to: "b", amount: 1 }), { correlationId: "req-1" });
    await store.runProcessManagers();
    const taken = [];
    for await (const event of store.get(Purse, "a").events({ from: 2 })) taken.push(event);
    expect(taken).toMatchObject([
      { type: "Taken", correlationId: "req-1", causationId: events[0]?.eventId, metadata: {} },
    ]);
    await store.close();
  });

  test.each(["deleted", "corrupted"])("send no command again when every checkpoint is %s", async (how) => {
    const first = await open();
    await fillAndRequest(first, 5);
    await first.runProcessManagers();
    const before = await countEvents(first);
    await first.close();
    const path = `${directory}/process_managers/transfers/checkpoint.eventfold.json`;
    expect(existsSync(path)).toBe(true);
    if (how === "deleted") rmSync(path);
    else writeFileSync(path, readFileSync(path, "utf8").replace('"position":', '"position":9'));
    const second = await open();
    expect(await second.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await countEvents(second)).toBe(before);
    await second.close();
  });

  test("repeat no command when the commit log is lost as well", async () => {
    const first = await open();
    await fillAndRequest(first, 3);
    await first.runProcessManagers();
    const before = await countEvents(first);
    await first.close();
    for (const lost of ["process_managers", "commit_log"]) rmSync(`${directory}/${lost}`, { recursive: true });
    const second = await open();
    await second.runProcessManagers();
    expect(await countEvents(second)).toBe(before);
    expect(await balances(second)).toEqual([70, 30]);
    await second.close();
  });

  test("continue among an event's commands after a crash", async () => {
    const first = await open();
    await fillAndRequest(first, 4);
    await first.close();
    // A crash can leave every prefix of the log that ends with a whole record.
    const whole = `${directory}.whole`;
    const worker = await open();
    await worker.runProcessManagers();
    await worker.close();
    cpSync(directory, whole, { recursive: true });
    const log = readFileSync(`${whole}/commit_log/0000000000000001.jsonl`);
    const cuts: number[] = [];
    for (let at = log.indexOf('{"commit":'); at >= 0; at = log.indexOf('{"commit":', at + 1)) cuts.push(at);
    for (const cut of cuts.slice(6)) {
      rmSync(directory, { recursive: true });
      cpSync(whole, directory, { recursive: true });
      for (const lost of ["streams", "meta", "process_managers"]) rmSync(`${directory}/${lost}`, { recursive: true });
      writeFileSync(`${directory}/commit_log/0000000000000001.jsonl`, log.subarray(0, cut));
      const store = await open();
      await store.runProcessManagers();
      expect(await balances(store)).toEqual([60, 40]);
      expect(await countEvents(store)).toBe(1 + 4 * 4);
      await store.close();
    }
    rmSync(whole, { recursive: true });
  });

  test("send a scheduled command once, in a later run, however late", async () => {
    const first = await open();
    await first.get(Transfer, "t").execute(Transfer.commands.Request({ from: "a", to: "b", amount: 10 }));
    // There is no money: the first command becomes a dead letter, and the time-out stays scheduled.
    expect(await first.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    await first.close();
    const second = await open();
    now += 29 * 60_000;
    expect(await second.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    now += 3_600_000;
    const [one, other] = [await open(), await open()];
    const reports = await Promise.all([second, one, other].map((store) => store.runProcessManagers()));
    expect(reports.reduce((sum, { dispatched }) => sum + dispatched, 0)).toBe(1);
    expect((await second.get(Transfer, "t").state()).status).toBe("late");
    for (const store of [second, one, other]) await store.close();
  });

  test("keep dead letters, replay them once, and drop them", async () => {
    const store = await open();
    await store.get(Transfer, "t").execute(Transfer.commands.Request({ from: "a", to: "b", amount: 10 }));
    await store.get(Transfer, "u").execute(Transfer.commands.Request({ from: "c", to: "b", amount: 10 }));
    await store.runProcessManagers();
    const letters = await store.deadLetters(Transfers);
    expect(letters).toMatchObject([
      { aggregate: "purse", id: "a", error: expect.stringContaining("TooLittle"), cause: { id: "t" } },
      { aggregate: "purse", id: "c" },
    ]);
    const [first, second] = letters;
    if (first === undefined || second === undefined) throw new Error("two letters");
    await expect(store.replayDeadLetter(first.key)).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
    await store.get(Purse, "a").execute(Purse.commands.Fill({ amount: 100 }));
    await store.replayDeadLetter(first.key);
    await expect(store.replayDeadLetter(first.key)).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
    await store.dropDeadLetter(second.key);
    expect(await store.deadLetters()).toEqual([]);
    await store.runProcessManagers();
    expect(await balances(store)).toEqual([90, 10]);
    await store.close();
    const again = await open();
    expect(await again.deadLetters()).toEqual([]);
    expect(await again.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    await again.close();
  });

  test("share the work between two stores on one directory and repeat no command", async () => {
    const [one, other] = [await open(), await open()];
    await one.get(Purse, "a").execute(Purse.commands.Fill({ amount: 1000 }));
    for (let i = 0; i < 30; i++) {
      await (i % 2 === 0 ? one : other)
        .get(Transfer, `t${i}`)
        .execute(Transfer.commands.Request({ from: "a", to: "b", amount: 10 }));
    }
    const reports = await Promise.all([one.runProcessManagers(), other.runProcessManagers()]);
    await one.runProcessManagers();
    expect(reports.reduce((sum, { dispatched }) => sum + dispatched, 0)).toBe(90);
    expect(await balances(one)).toEqual([700, 300]);
    expect(await balances(other)).toEqual([700, 300]);
    await one.close();
    await other.close();
  });

  test("end a loop with a dead letter that names the loop", async () => {
    const Ping = aggregate("ping", {
      initial: 0,
      events: { Pinged: data() },
      commands: { Ping: data() },
    }).define({ handle: { Ping: ({ emit }) => emit.Pinged() }, apply: { Pinged: (n) => n + 1 } });
    const Echo = processManager("echo", { dispatches: [Ping] }).on(Ping, { Pinged: (_, e) => Ping.at(e.id).Ping() });
    const store = await AggregateStore.builder(directory)
      .aggregate(Ping)
      .processManager(Echo)
      .processManagerMode("manual")
      .open();
    await store.get(Ping, "p").execute({ type: "Ping" });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 100, deadLettered: 1 });
    expect((await store.deadLetters())[0]?.error).toContain("loop");
    await store.close();
  });
});
