import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, memory, processManager } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { Counter } from "../support/counter.ts";
import { Sink, taken } from "../support/relay.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const START = Date.UTC(2026, 0, 1);

/** Schedules a reminder half an hour after each addition, unless the counter is cleared before. */
const Reminders = processManager("reminders", { dispatches: [Sink] }).on(Counter, {
  Added: (_, e) => ({
    schedule: [{ in: "30m", key: e.id, dispatch: Sink.at(e.id).TakeLate({ n: e.data.by }) }],
  }),
  Cleared: (_, e) => ({ cancel: [e.id] }),
});

function reminders(directory: string) {
  const clock = manualClock(START);
  const open = (mode: "manual" | "automatic" = "manual") =>
    AggregateStore.builder(directory)
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Reminders)
      .processManagerMode(mode)
      .clock(clock.now)
      .open();
  return { clock, open };
}
const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe.each(backends)("a scheduled command $backend", ({ builder }) => {
  test("is sent when it is due, not before, and once", async () => {
    const clock = manualClock(START);
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Reminders)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    await store.dispatch(add("a", 7));
    clock.advance("29m");
    // The delay counts from the event's time, not from when the process manager handled it.
    await store.runProcessManagers();
    clock.advance("59s");
    clock.advance(999);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    clock.advance(1);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    clock.advance("1d");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await taken(store, "a")).toEqual([7]);
  });

  test("is cancelled by its key, replaced by another with the same key, and unaffected by other keys", async () => {
    const clock = manualClock(START);
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Reminders)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    await store.dispatchAll([add("cancelled", 1), add("replaced", 2), add("kept", 3)]);
    await store.runProcessManagers();
    clock.advance("10m");
    await store.dispatchAll([Counter.at("cancelled").Clear(), add("replaced", 20)]);
    await store.runProcessManagers();
    clock.advance("20m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await taken(store, "kept")).toEqual([3]);
    clock.advance("10m");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await taken(store, "replaced")).toEqual([20]);
    expect(await taken(store, "cancelled")).toEqual([]);
  });

  test("may be due at a date, and the earliest of several is sent first", async () => {
    const clock = manualClock(START);
    const Calendar = processManager("calendar", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => ({
        dispatch: Sink.at("s").Take({ n: 0 }),
        schedule: [
          { at: new Date(START + 3000), dispatch: Sink.at("s").TakeLate({ n: 3 }) },
          { at: START + 1000, dispatch: Sink.at("s").TakeLate({ n: 1 }) },
          { in: 2000, dispatch: Sink.at("s").TakeLate({ n: 2 }) },
          { at: START - 1, dispatch: Sink.at("s").TakeLate({ n: e.data.by }) },
        ],
      }),
    });
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Calendar)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    await store.dispatch(add("a", -1));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    clock.advance("1h");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 3, deadLettered: 0 });
    expect(await taken(store, "s")).toEqual([0, -1, 1, 2, 3]);
  });
});

describe.each(backends)("a key of a scheduled command $backend", ({ builder }) => {
  const later = (n: number, hours: number, key?: string) => ({
    in: hours * 3_600_000,
    dispatch: Sink.at("s").TakeLate({ n }),
    ...(key === undefined ? {} : { key }),
  });
  type Reaction = { readonly schedule?: ReturnType<typeof later>[]; readonly cancel?: string[] };

  /** The commands sent in each hour, for the reactions to events 1, 2 … The store runs after each event if `runs` says so. */
  const sent = async (reactions: readonly Reaction[], runs: boolean, hours = 3): Promise<(readonly number[])[]> => {
    const clock = manualClock(START);
    const Keyed = processManager("keyed", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => reactions[e.data.by - 1],
    });
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Keyed)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    for (const by of oneTo(reactions.length)) {
      await store.dispatch(add("a", by));
      if (runs) await store.runProcessManagers();
    }
    const byHour: (readonly number[])[] = [];
    for (const _ of oneTo(hours)) {
      clock.advance("1h");
      await store.runProcessManagers();
      byHour.push(await taken(store, "s"));
    }
    return byHour;
  };

  test("that a reaction schedules twice has the later of both", async () => {
    const twice: Reaction = { schedule: [later(1, 1, "k"), later(2, 2, "k"), later(3, 1, "other"), later(4, 1)] };
    expect(await sent([twice], true)).toEqual([
      [3, 4],
      [3, 4, 2],
      [3, 4, 2],
    ]);
    expect(await sent([{ schedule: [later(1, 3, "k"), later(2, 1, "k"), later(3, 2, "k")] }], true)).toEqual([
      [],
      [3],
      [3],
    ]);
  });

  test("that a reaction cancels and schedules is cancelled first: what it schedules stays", async () => {
    const both: Reaction = { cancel: ["k"], schedule: [later(2, 1, "k")] };
    expect(await sent([both], true)).toEqual([[2], [2], [2]]);
    expect(await sent([{ schedule: [later(1, 1, "k")] }, both], true)).toEqual([[2], [2], [2]]);
  });

  test.each([true, false])(
    "that two events schedule has the later one's command (run between them: %s)",
    async (runs) => {
      const first: Reaction = { schedule: [later(1, 1, "k")] };
      expect(await sent([first, { schedule: [later(2, 2, "k")] }], runs)).toEqual([[], [2], [2]]);
      expect(await sent([first, { cancel: ["k"] }], runs)).toEqual([[], [], []]);
    },
  );

  test("whose command is due but not sent yet is replaced", async () => {
    const overdue: Reaction = { schedule: [later(1, 0, "k"), later(5, 0)] };
    expect(await sent([overdue, { schedule: [later(2, 1, "k")] }], false)).toEqual([
      [5, 2],
      [5, 2],
      [5, 2],
    ]);
  });
});

describe("a scheduled command of an earlier run", () => {
  test("is sent in a later run, however late, exactly once, also when two stores are open", async () => {
    const directory = temporaryDirectory();
    const { clock, open } = reminders(directory);
    const first = await open();
    await first.dispatch(add("a", 5));
    expect(await first.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    await first.close();
    clock.advance("2d");
    const stores = [await open(), await open(), await open()];
    const reports = await Promise.all(stores.map((store) => store.runProcessManagers()));
    expect(reports.reduce((sum, { dispatched }) => sum + dispatched, 0)).toBe(1);
    for (const store of stores) {
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      expect(await taken(store, "a")).toEqual([5]);
      await store.close();
    }
  });

  test("is sent automatically while the store is open", async () => {
    const { clock, open } = reminders(temporaryDirectory());
    await using one = await open("automatic");
    await using two = await open("automatic");
    await one.dispatch(add("a", 5));
    clock.advance("29m");
    await one.runProcessManagers();
    expect(await taken(one, "a")).toEqual([]);
    clock.advance("2m");
    await until(async () => (await taken(two, "a")).length > 0);
    await Promise.all([one.runProcessManagers(), two.runProcessManagers()]);
    expect(await taken(one, "a")).toEqual([5]);
  });

  test.each(["deleted", "damaged", "kept"])("is sent once when the checkpoint is %s, before and after", async (how) => {
    const directory = temporaryDirectory();
    const { clock, open } = reminders(directory);
    const file = path.join(directory, "process_managers/reminders/checkpoint.eventfold.json");
    const restart = async (): Promise<number> => {
      const store = await open();
      const { dispatched } = await store.runProcessManagers();
      await store.close();
      if (how === "deleted") fs.rmSync(file, { force: true });
      if (how === "damaged" && fs.existsSync(file)) fs.writeFileSync(file, "{");
      return dispatched;
    };
    const first = await open();
    for (const id of ["a", "b"]) await first.dispatch(add(id, 5));
    await first.close();
    await restart();
    const second = await open();
    await second.dispatch(Counter.at("b").Clear());
    await second.close();
    await restart();
    clock.advance("30m");
    expect([await restart(), await restart(), await restart()]).toEqual([1, 0, 0]);
    await using last = await open();
    expect(await taken(last, "a")).toEqual([5]);
    expect(await taken(last, "b")).toEqual([]);
  });

  test("that is rejected becomes a dead letter that names its event", async () => {
    const directory = temporaryDirectory();
    const clock = manualClock(START);
    const Late = processManager("late", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => ({ schedule: [{ in: "1h", dispatch: Sink.at(e.id).Take({ n: -1 }) }] }),
    });
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Late)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    await store.dispatch(add("a"));
    await store.runProcessManagers();
    clock.advance("1h");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    expect(await store.deadLetters()).toMatchObject([{ cause: { aggregate: "counter", id: "a", position: 1 } }]);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("is sent among very many", async () => {
    const clock = manualClock(START);
    const Flood = processManager("flood", { dispatches: [Sink] }).on(Counter, {
      Added: () => ({
        schedule: oneTo(150_000).map((n) => ({ in: 1000 * n, dispatch: Sink.at("s").TakeLate({ n }) })),
      }),
    });
    await using store = await AggregateStore.builder(memory())
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Flood)
      .processManagerMode("manual")
      .clock(clock.now)
      .open();
    await store.dispatch(add("a"));
    await store.runProcessManagers();
    clock.advance("100s");
    expect(await store.runProcessManagers()).toEqual({ dispatched: 100, deadLettered: 0 });
    expect(await taken(store, "s")).toEqual(oneTo(100));
  });
});
