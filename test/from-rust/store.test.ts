import { existsSync } from "node:fs";
import { AggregateStore, memory, processManager } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { Counter, Meter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Adds to a meter every number that is added to a counter. */
const Mirror = processManager("mirror", { dispatches: [Meter] }).on(Counter, {
  Added: (_, { id, data: { by } }) => Meter.at(id).Measure({ watts: by }),
});

describe("AggregateStore", () => {
  test("clone: all callers share one store object and its instances in memory", async () => {
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Counter).open();
    const shared = store;
    await store.get(Counter, "c").execute(Counter.commands.Add({ by: 1 }));
    expect(shared.get(Counter, "c").isAlive()).toBe(true);
    expect(await shared.get(Counter, "c").state()).toBe(1);
  });

  test("layout: the paths are those of docs/format.md", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
    await store.get(Counter, "c-1").execute(Counter.commands.Add({ by: 1 }));
    for (const path of ["streams/counter/c-1/app.jsonl", "meta/streams.jsonl", "commit_log"])
      expect(existsSync(`${directory}/${path}`), path).toBe(true);
  });

  test("get creates no file; the first event does", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
    expect(await store.get(Counter, "c-1").state()).toBe(0);
    expect(await store.list(Counter)).toEqual([]);
    expect(existsSync(`${directory}/streams/counter`)).toBe(false);
  });

  test("inject_event: an event is appended unchanged, once per instance, also after a restart", async () => {
    const directory = temporaryDirectory();
    const open = () => AggregateStore.builder(directory).aggregate(Counter).open();
    const event = { type: "Added", data: { by: 5 }, eventId: "e-1", timestamp: 1_000, actor: "phone" } as const;
    const first = await open();
    expect(await first.injectEvent(Counter, "a", event)).toEqual({ injected: true, version: 1, position: 1 });
    // The Rust crate would drop an event with the same id in another stream.
    expect(await first.injectEvent(Counter, "b", event)).toMatchObject({ injected: true });
    await first.close();
    await using second = await open();
    expect(await second.injectEvent(Counter, "a", event)).toEqual({ injected: false, version: 1, position: 1 });
    expect(await second.get(Counter, "a").state()).toBe(5);
    const [recorded] = await collect(second.readEvents("counter", "a"));
    expect(recorded).toMatchObject({ eventId: "e-1", timestamp: 1_000, actor: "phone" });
  });

  test("run_process_managers and InjectOptions: process managers handle injected events as any other, or at once", async () => {
    await using store = await AggregateStore.builder(memory())
      .aggregate(Counter)
      .aggregate(Meter)
      .processManager(Mirror)
      .processManagerMode("manual")
      .open();
    await store.injectEvent(Counter, "a", { type: "Added", data: { by: 5 } });
    expect(await store.get(Meter, "a").state()).toBe(0);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.get(Meter, "a").state()).toBe(5);
    await store.injectEvent(Counter, "b", { type: "Added", data: { by: 7 } }, { runProcessManagers: true });
    expect(await store.get(Meter, "b").state()).toBe(7);
  });

  test("aggregate_type: all aggregates are registered the same way, including targets of process managers", async () => {
    const wiring = AggregateStore.builder(temporaryDirectory()).aggregate(Counter);
    // @ts-expect-error the target is not registered
    const opening = wiring.processManager(Mirror).open();
    await expect(opening).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
  });
});

describe("AggregateHandle", () => {
  test("clone: all handles to one instance have the same state", async () => {
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).open();
    const [one, other] = [store.get(Account, "ada"), store.get(Account, "ada")];
    await one.execute(Account.commands.Open({ owner: "Ada" }));
    const deposits = [one, other, one, other].map((handle) => handle.execute(Account.commands.Deposit({ amount: 1 })));
    await Promise.all(deposits);
    expect(await other.state()).toEqual({ open: true, balance: 4 });
  });

  test("execute also returns the state, so no second call is needed", async () => {
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Counter).open();
    const { events, state } = await store.get(Counter, "c").execute(Counter.commands.Add({ by: 3 }));
    expect(events).toMatchObject([{ type: "Added", data: { by: 3 }, version: 1 }]);
    expect(state).toBe(3);
  });
});
