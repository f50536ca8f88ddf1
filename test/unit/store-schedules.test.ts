import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, type AggregateStore as Store, AggregateStore, data, memory } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { verify } from "eventfold-es/doctor";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter, Meter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const START = Date.UTC(2026, 0, 1);

const Alarm = aggregate("alarm", {
  initial: { on: false },
  events: { Armed: data(), Rang: data<{ n: number }>() },
  commands: { Arm: data(), Ring: data<{ n: number }>() },
  rejections: { NotArmed: data() },
}).define({
  handle: {
    Arm: ({ emit }) => emit.Armed(),
    Ring: ({ state, data, emit, reject }) => (state.on ? emit.Rang(data) : reject.NotArmed()),
  },
  apply: { Armed: () => ({ on: true }), Rang: (state) => state },
});

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

async function added(store: Pick<Store, "readEvents">, id: string): Promise<number[]> {
  const events = await collect(store.readEvents("counter", id));
  return events.map((event) => (event.data as { by: number }).by);
}

describe.each(backends)("store.schedule $backend", ({ builder }) => {
  const open = async (clock = manualClock(START), mode: "manual" | "automatic" = "manual") => {
    const store = await builder().aggregate(Counter).aggregate(Alarm).processManagerMode(mode).clock(clock.now).open();
    return { clock, store };
  };

  test("sends a command after a while, at a time, and never before or twice", async () => {
    const { clock, store } = await open();
    await using _ = store;
    expect(await store.schedule(add("in", 1), { in: "30m", key: "i" })).toEqual({
      key: "i",
      due: START + 30 * 60_000,
      envelope: add("in", 1),
    });
    await store.schedule(add("at", 2), { at: new Date(START + 60_000) });
    await store.schedule(add("past", 3), { at: START - 5 });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await added(store, "past")).toEqual([3]);
    clock.advance(59_999);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    clock.advance(1);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    clock.advance("1d");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect([await added(store, "at"), await added(store, "in")]).toEqual([[2], [1]]);
    expect(await store.schedules()).toEqual([]);
  });

  test("replaces a schedule with the same key, and cancels by key", async () => {
    const { clock, store } = await open();
    await using _ = store;
    await store.schedule(add("a", 1), { in: "1m", key: "k" });
    await store.schedule(add("b", 9), { in: "2m", key: "other" });
    await store.schedule(add("a", 2), { in: "3m", key: "k" });
    expect((await store.schedules()).map(({ key, due }) => [key, due - START])).toEqual([
      ["other", 120_000],
      ["k", 180_000],
    ]);
    expect(await store.cancelSchedule("other")).toBe(true);
    expect(await store.cancelSchedule("other")).toBe(false);
    clock.advance("1h");
    await store.runProcessManagers();
    expect([await added(store, "a"), await added(store, "b")]).toEqual([[2], []]);
    expect(await store.cancelSchedule("k")).toBe(false);
  });

  test("sends a command again and again, and once for all times that were missed", async () => {
    const { clock, store } = await open();
    await using _ = store;
    await store.schedule(add("a"), { every: "1h", key: "hourly" });
    const runs: number[] = [];
    for (const step of ["59m", "1m", "1h", "10h", "30m", "30m"] as const) {
      clock.advance(step);
      runs.push((await store.runProcessManagers()).dispatched);
    }
    // The times stay on the hour.
    expect(runs).toEqual([0, 1, 1, 1, 0, 1]);
    expect(await store.schedules()).toMatchObject([{ key: "hourly", due: START + 14 * 3_600_000, every: 3_600_000 }]);
    await store.cancelSchedule("hourly");
    clock.advance("10h");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("begins repeating at a time", async () => {
    const { clock, store } = await open();
    await using _ = store;
    await store.schedule(add("a"), { at: START + 5, every: 10 });
    for (const by of [4, 1, 9, 1]) {
      clock.advance(by);
      await store.runProcessManagers();
    }
    const times = (await collect(store.readEvents("counter", "a"))).map(({ timestamp }) => timestamp - START);
    expect(times).toEqual([5, 15]);
  });

  test("by itself while the store is open, with the context of the envelope", async () => {
    const { clock, store } = await open(undefined, "automatic");
    await using _ = store;
    await store.schedule(
      { ...add("a", 4), context: { actor: "timer", correlationId: "r-1" } },
      { in: "1m", key: "once" },
    );
    clock.advance("1m");
    await until(async () => (await store.head()) === 1);
    const [event] = await collect(store.readEvents("counter", "a"));
    expect(event).toMatchObject({ actor: "timer", correlationId: "r-1", timestamp: START + 60_000 });
    await until(async () => (await store.schedules()).length === 0);
  });

  test("makes a dead letter of a command that is rejected, and repeats all the same", async () => {
    const { clock, store } = await open();
    await using _ = store;
    await store.schedule(Alarm.at("a").Ring({ n: 1 }), { every: "1m", key: "ring" });
    clock.advance("1m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    const [letter] = await store.deadLetters();
    expect(letter).toMatchObject({ schedule: "ring", aggregate: "alarm", id: "a", command: { type: "Ring" } });
    expect(letter).not.toHaveProperty("processManager");
    await expect(store.replayDeadLetter(letter?.key ?? "")).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
    await store.dispatch(Alarm.at("a").Arm());
    await store.replayDeadLetter(letter?.key ?? "");
    expect(await store.deadLetters()).toEqual([]);
    clock.advance("1m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect((await collect(store.readEvents("alarm", "a"))).map(({ type }) => type)).toEqual(["Armed", "Rang", "Rang"]);
  });

  test("drops a dead letter", async () => {
    const { store } = await open();
    await using _ = store;
    await store.schedule(Alarm.at("a").Ring({ n: 1 }), { in: 0 });
    await store.runProcessManagers();
    const [letter] = await store.deadLetters();
    await store.dropDeadLetter(letter?.key ?? "");
    expect(await store.deadLetters()).toEqual([]);
    await expect(store.dropDeadLetter(letter?.key ?? "")).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
  });

  test("refuses commands that cannot be sent and times that cannot be meant", async () => {
    const { store } = await open();
    await using _ = store;
    const refused = async (envelope: unknown, options: unknown): Promise<unknown> =>
      store.schedule(envelope as never, options as never).then(
        () => "accepted",
        (error: { readonly code?: string }) => error.code,
      );
    expect(await refused({ aggregate: "nope", id: "a", command: { type: "Add" } }, { in: 1 })).toBe(
      "UNKNOWN_AGGREGATE",
    );
    expect(await refused({ aggregate: "counter", id: "a", command: { type: "Nope" } }, { in: 1 })).toBe(
      "UNKNOWN_COMMAND",
    );
    expect(await refused(add("a", NaN), { in: 1 })).toBe("INVALID_PAYLOAD");
    expect(await refused({ ...add("a"), context: { actor: 5 } }, { in: 1 })).toBe("INVALID_CONTEXT");
    expect(await refused(add(""), { in: 1 })).toBe("INVALID_ID");
    expect(await refused("now", { in: 1 })).toBe("INVALID_COMMAND");
    expect(await refused({ ...add("a"), when: 1 }, { in: 1 })).toBe("INVALID_COMMAND");
    for (const options of [
      {},
      { in: 1, at: 1 },
      { in: "soon" },
      { in: -1 },
      { in: Infinity },
      { at: NaN },
      { at: new Date(NaN) },
      { at: "2026-01-01" },
      { every: 0 },
      { every: "0.5ms" },
      { every: Infinity },
      { in: 1, key: "" },
      { in: 1, key: 5 },
      { in: 1, kye: "k" },
    ])
      expect([options, await refused(add("a"), options)]).toEqual([options, "INVALID_ARGUMENT"]);
    expect(await refused({ ...add("a"), context: { idempotencyKey: "k" } }, { every: 5 })).toBe("INVALID_ARGUMENT");
    expect(await store.schedules()).toEqual([]);
    expect(await store.cancelSchedule("nothing")).toBe(false);
  });

  test("may be called by middleware that a scheduled command passes", async () => {
    const clock = manualClock(START);
    let count = 0;
    await using store: Store = await builder()
      .aggregate(Counter)
      .processManagerMode("manual")
      .clock(clock.now)
      .use(async (envelope, next) => {
        if (count++ === 0) await store.schedule(add("b"), { in: "1m", key: "next" });
        return next(envelope);
      })
      .open();
    await store.schedule(add("a"), { in: "1m", key: "first" });
    clock.advance("1m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    clock.advance("1m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  });
});

describe("schedules in files", () => {
  const opener = () => {
    const directory = temporaryDirectory();
    const clock = manualClock(START);
    const open = (mode: "manual" | "automatic" = "manual") =>
      AggregateStore.builder(directory)
        .aggregate(Counter)
        .aggregate(Alarm)
        .processManagerMode(mode)
        .clock(clock.now)
        .open();
    return { directory, clock, open };
  };

  test("survive restarts, also without their checkpoint and without the marker", async () => {
    const { directory, clock, open } = opener();
    for (const [round, lost] of [
      [],
      ["process_managers"],
      ["meta/marker.json"],
      ["process_managers", "meta"],
    ].entries()) {
      await using store = await open();
      await store.schedule(add(`r${round}`, round + 1), { in: "1h", key: `k${round}` });
      await store.close();
      for (const name of lost) fs.rmSync(path.join(directory, name), { recursive: true });
    }
    await using store = await open();
    expect((await store.schedules()).map(({ key }) => key)).toEqual(["k0", "k1", "k2", "k3"]);
    clock.advance("1h");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 4, deadLettered: 0 });
    await store.close();
    fs.rmSync(path.join(directory, "process_managers"), { recursive: true });
    await using again = await open();
    expect(await again.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await again.head()).toBe(4);
  });

  test("are sent after the next opening if no store was open when they were due", async () => {
    const { clock, open } = opener();
    await using first = await open("automatic");
    await first.schedule(add("a"), { in: "1h" });
    await first.close();
    clock.advance("1d");
    await using second = await open("automatic");
    await until(async () => (await second.head()) === 1);
  });

  test("are sent once by two stores on one directory, each of which sees and cancels those of the other", async () => {
    const { clock, open } = opener();
    await using a = await open("automatic");
    await using b = await open("automatic");
    const ids = Array.from({ length: 20 }, (_, i) => `c${i}`);
    for (const [i, id] of ids.entries()) await (i % 2 === 0 ? a : b).schedule(add(id), { in: "1m", key: id });
    await a.schedule(add("gone"), { in: "1m", key: "gone" });
    expect(await b.cancelSchedule("gone")).toBe(true);
    expect((await b.schedules()).length).toBe(20);
    clock.advance("1m");
    await until(async () => (await a.schedules()).length === 0 && (await b.schedules()).length === 0);
    expect(await a.head()).toBe(20);
    for (const id of ids) expect(await added(b, id)).toEqual([1]);
  });

  test("of a store that was closed are sent by another one that was open before and idle", async () => {
    const { clock, open } = opener();
    await using idle = await open("automatic");
    const other = await open("manual");
    await other.schedule(add("a"), { in: "1m" });
    await other.close();
    clock.advance("1m");
    await until(async () => (await idle.head()) === 1);
  });

  test("wait for a process that has registered their aggregate", async () => {
    const { directory, clock, open } = opener();
    await using first = await open();
    await first.schedule(add("a"), { in: "1m", key: "k" });
    await first.close();
    clock.advance("1h");
    const other = await AggregateStore.builder(directory).aggregate(Meter).clock(clock.now).open();
    expect(await other.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await other.schedules()).toMatchObject([{ key: "k" }]);
    expect(await other.deadLetters()).toEqual([]);
    await other.close();
    // Registered by its first handle.
    await using late = await AggregateStore.open(directory);
    late.get(Counter, "a");
    await until(async () => (await late.head()) === 1);
  });

  test("cost nothing in a store that has none, and leave a sound store", async () => {
    const { directory, open } = opener();
    await using store = await open("automatic");
    await store.dispatch(add("a"));
    expect(await store.schedules()).toEqual([]);
    await store.close();
    expect(fs.existsSync(path.join(directory, "process_managers"))).toBe(false);
    await using other = await open("manual");
    await other.schedule(Alarm.at("a").Ring({ n: 1 }), { in: 0 });
    await other.schedule(add("b"), { every: "1h" });
    await other.runProcessManagers();
    await other.close();
    const marker = JSON.parse(fs.readFileSync(path.join(directory, "meta/marker.json"), "utf8")) as object;
    expect(marker).toMatchObject({ position: 1, consumers: ["store:schedules"] });
    expect(await verify(directory)).toMatchObject({ clean: true, findings: [] });
  });
});

test("two stores on one memory send a command once", async () => {
  const storage = memory();
  const clock = manualClock(START);
  const open = () => AggregateStore.builder(storage).aggregate(Counter).clock(clock.now).open();
  await using a = await open();
  await using b = await open();
  await a.schedule(add("a"), { in: "1m" });
  await b.schedule(add("a"), { in: "1m" });
  clock.advance("1m");
  await until(async () => (await a.schedules()).length === 0);
  expect(await b.head()).toBe(2);
});
