import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const open = (directory = temporaryDirectory()) => AggregateStore.builder(directory).aggregate(Counter).open();
const add = Counter.commands.Add({ by: 1 });

describe("eventfold's reader", () => {
  test("read_full and read_from: events from a version on, not from a byte", async () => {
    await using store = await open();
    const counter = store.get(Counter, "c");
    await counter.execute(Counter.commands.AddMany({ count: 5 }));
    const versions = async (from?: number): Promise<number[]> =>
      (await collect(counter.events(from === undefined ? {} : { from }))).map(({ version }) => version);
    expect(await versions()).toEqual([1, 2, 3, 4, 5]);
    expect(await versions(4)).toEqual([4, 5]);
    expect(await versions(6)).toEqual([]);
  });

  test("has_new_events: reading from the next version returns the new events, or none", async () => {
    const directory = temporaryDirectory();
    await using ours = await open(directory);
    await using theirs = await open(directory);
    const { version } = await ours.get(Counter, "c").execute(add);
    const newEvents = () => collect(ours.get(Counter, "c").events({ from: version + 1 }));
    expect(await newEvents()).toEqual([]);
    await theirs.get(Counter, "c").execute(add);
    expect(await newEvents()).toMatchObject([{ version: 2 }]);
  });

  test("wait_for_events: a subscription waits for the next event, also of other processes", async () => {
    const directory = temporaryDirectory();
    await using ours = await open(directory);
    await using theirs = await open(directory);
    const seen: number[] = [];
    const waiting = (async () => {
      for await (const event of ours.subscribe({ from: "now", aggregates: [Counter] })) {
        seen.push(event.position);
        if (seen.length === 2) return;
      }
    })();
    // The loop's first request decides where `from: "now"` is.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await ours.get(Counter, "c").execute(add);
    await theirs.get(Counter, "c").execute(add);
    await waiting;
    expect(seen).toEqual([1, 2]);
  });

  test("wait_for_events with a timeout: the signal ends the wait", async () => {
    await using store = await open();
    expect(await collect(store.subscribe({ signal: AbortSignal.timeout(20) }))).toEqual([]);
  });

  test("conditional append: a command is decided again on the events of the other process", async () => {
    const directory = temporaryDirectory();
    await using ours = await open(directory);
    await using theirs = await open(directory);
    const results = await Promise.all([ours, theirs].map((store) => store.get(Counter, "c").execute(add)));
    expect(new Set(results.map(({ version }) => version))).toEqual(new Set([1, 2]));
    expect(await ours.get(Counter, "c").state()).toBe(2);
  });
});
