import { AggregateStore, memory } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { expect, test } from "vitest";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const START = Date.UTC(2026, 0, 1);
const add = (id: string, by = 1) => Counter.at(id).Add({ by });

/** A store with a schedule, and with a dead letter of a schedule and of a subscription. */
async function prepared(directory: string) {
  const clock = manualClock(START);
  const builder = (storage: Parameters<typeof AggregateStore.builder>[0]) =>
    AggregateStore.builder(storage).aggregate(Counter).processManagerMode("manual").clock(clock.now);
  const store = await builder(directory).open();
  await store.dispatch(add("a"));
  await store.schedule(add("later", 7), { in: "1h", key: "k" });
  store.subscribe({ name: "bad", retry: { attempts: 1 }, onError: () => {} }, () => {
    throw new Error("no");
  });
  await until(async () => (await store.deadLetters({ subscription: "bad" })).length === 1);
  return { clock, builder, store };
}

test("schedules and dead letters of subscriptions are in a backup", async () => {
  const source = temporaryDirectory();
  const { clock, builder, store } = await prepared(source);
  // The checkpoint of the schedules is written on close.
  await store.close();
  await using opened = await builder(source).open();
  const target = `${temporaryDirectory()}/copy`;
  await opened.backup(target);
  await using copy = await builder(target).open();
  expect(await copy.schedules()).toMatchObject([{ key: "k" }]);
  expect((await copy.deadLetters()).map(({ subscription }) => subscription)).toEqual(["bad"]);
  clock.advance("1h");
  expect(await copy.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  expect(await copy.get(Counter, "later").state()).toBe(7);
});

test("schedules and dead letters of subscriptions are in an export", async () => {
  const { clock, builder, store } = await prepared(temporaryDirectory());
  await using copy = await builder(memory()).open();
  await copy.import(store.export());
  await store.close();
  expect(await copy.schedules()).toMatchObject([{ key: "k" }]);
  expect((await copy.deadLetters()).map(({ subscription }) => subscription)).toEqual(["bad"]);
  clock.advance("1h");
  expect(await copy.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  expect(await copy.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
});
