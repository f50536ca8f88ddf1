import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, type AnyProcessManager, processManager } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Counter } from "../support/counter.ts";
import { allEvents, openRelay, Sink, taken } from "../support/relay.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });
const checkpointOf = (directory: string, name = "relay"): string =>
  path.join(directory, "process_managers", name, "checkpoint.eventfold.json");

describe("a process manager sends each command exactly once", () => {
  const run = async (directory: string): Promise<{ dispatched: number; deadLettered: number }> => {
    await using store = await openRelay(directory);
    return await store.runProcessManagers();
  };
  const history = async (directory: string, from: number, to: number): Promise<void> => {
    await using store = await openRelay(directory);
    for (let i = from; i <= to; i++) await store.dispatch(add(`a${i % 2}`, i % 7 === 0 ? -i : i));
  };
  const everything = async (directory: string): Promise<unknown> => {
    await using store = await openRelay(directory);
    const letters = await store.deadLetters();
    return [(await allEvents(store)).map(({ type, id, data: d }) => [type, id, d]), letters.map(({ key }) => key)];
  };

  const losses: [string, (directory: string) => void][] = [
    ["the checkpoint deleted", (d) => fs.rmSync(checkpointOf(d))],
    ["the checkpoint emptied", (d) => fs.writeFileSync(checkpointOf(d), "")],
    ["the checkpoint cut short", (d) => fs.truncateSync(checkpointOf(d), 40)],
    ["the checkpoint damaged", (d) => fs.writeFileSync(checkpointOf(d), "\0".repeat(99))],
    ["the checkpoint of an earlier time", (d) => fs.copyFileSync(path.join(d, "early.json"), checkpointOf(d))],
    [
      "the checkpoint of other code",
      (d) =>
        fs.writeFileSync(
          checkpointOf(d),
          fs.readFileSync(checkpointOf(d), "utf8").replace(/"fingerprint":"."/, '"fingerprint":"x"'),
        ),
    ],
    ["the commit log lost", (d) => fs.rmSync(path.join(d, "commit_log"), { recursive: true })],
    [
      "the commit log and the checkpoint lost",
      (d) => {
        fs.rmSync(path.join(d, "commit_log"), { recursive: true });
        fs.rmSync(checkpointOf(d));
      },
    ],
  ];
  test.each(losses)("with %s between runs", async (_, lose) => {
    const directory = temporaryDirectory();
    await history(directory, 1, 8);
    expect(await run(directory)).toEqual({ dispatched: 7, deadLettered: 1 });
    fs.copyFileSync(checkpointOf(directory), path.join(directory, "early.json"));
    await history(directory, 9, 12);
    await run(directory);
    const before = await everything(directory);
    lose(directory);
    await run(directory);
    expect(await everything(directory)).toEqual(before);
    await history(directory, 13, 13);
    await run(directory);
    const after = await everything(directory);
    lose(directory);
    await run(directory);
    expect(await everything(directory)).toEqual(after);
    await using store = await openRelay(directory);
    expect(await taken(store, "a1")).toEqual([1, 3, 5, 9, 11, 13]);
    expect(await taken(store, "a0")).toEqual([2, 4, 6, 8, 10, 12]);
  });

  test("of a store that was restored from a backup, whatever the checkpoint says", async () => {
    const [directory, backup] = [temporaryDirectory(), path.join(temporaryDirectory(), "backup")];
    await history(directory, 1, 4);
    await run(directory);
    fs.cpSync(directory, backup, { recursive: true });
    await history(directory, 5, 6);
    await run(directory);
    const ahead = fs.readFileSync(checkpointOf(directory));
    fs.rmSync(directory, { recursive: true });
    fs.cpSync(backup, directory, { recursive: true });
    await history(directory, 21, 27);
    fs.writeFileSync(checkpointOf(directory), ahead);
    await run(directory);
    await using store = await openRelay(directory);
    expect(await taken(store, "a1")).toEqual([1, 3, 23, 25, 27]);
    expect(await taken(store, "a0")).toEqual([2, 4, 22, 24, 26]);
  });

  test("although a checkpoint has more notes than the log", async () => {
    const directory = temporaryDirectory();
    await history(directory, 1, 4);
    await run(directory);
    const store = await openRelay(directory);
    // Another store on the directory has read the log without the checkpoint.
    fs.rmSync(path.join(directory, "commit_log"), { recursive: true });
    await store.close().catch(() => {});
    await using one = await openRelay(directory);
    await using two = await openRelay(directory);
    fs.rmSync(checkpointOf(directory));
    await one.dispatch(add("a1", 5));
    await Promise.all([two.runProcessManagers(), one.runProcessManagers()]);
    await one.dispatch(add("a1", 9));
    await Promise.all([one.runProcessManagers(), two.runProcessManagers()]);
    expect(await taken(one, "a1")).toEqual([1, 3, 5, 9]);
  });

  test("when two stores run it automatically", async () => {
    const directory = temporaryDirectory();
    await using one = await openRelay(directory, "automatic");
    await using two = await openRelay(directory, "automatic");
    for (const i of oneTo(60)) await (i % 2 === 0 ? one : two).dispatch(add(`a${i % 4}`, i % 10 === 0 ? -i : i));
    const expected = (k: number): number[] => oneTo(60).filter((i) => i % 4 === k && i % 10 !== 0);
    for (const k of [0, 1, 2, 3]) {
      await until(async () => (await taken(one, `a${k}`)).length === expected(k).length);
      expect(await taken(two, `a${k}`)).toEqual(expected(k));
    }
    await until(async () => (await one.deadLetters()).length === 6);
    await Promise.all([one.runProcessManagers(), two.runProcessManagers()]);
    expect(new Set((await two.deadLetters()).map(({ key }) => key)).size).toBe(6);
  });

  test("while dead letters are replayed and dropped", async () => {
    await using store = await openRelay(temporaryDirectory(), "automatic");
    for (const i of oneTo(20)) await store.dispatch(add("a", -i));
    await until(async () => (await store.deadLetters()).length === 20);
    const letters = await store.deadLetters();
    const settled = letters.map(async ({ key }, i) => {
      if (i % 2 === 0) return store.dropDeadLetter(key);
      await expect(store.replayDeadLetter(key)).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
      return store.dropDeadLetter(key);
    });
    for (const i of oneTo(20)) await store.dispatch(add("b", i));
    await Promise.all(settled);
    await until(async () => (await taken(store, "b")).length === 20);
    expect(await taken(store, "b")).toEqual(oneTo(20));
    expect(await store.deadLetters()).toEqual([]);
  });
});

test("a process manager whose code changed has a state of the new code, and sends no command for handled events", async () => {
  const directory = temporaryDirectory();
  const open = (manager: AnyProcessManager) =>
    (
      AggregateStore.builder(directory).aggregate(Counter).aggregate(Sink).processManagerMode("manual") as unknown as {
        processManager(m: AnyProcessManager): { open(): Promise<AggregateStore> };
      }
    )
      .processManager(manager)
      .open();
  const version = (factor: number) =>
    processManager("changing", { dispatches: [Sink], initial: { sum: 0 } }).on(
      Counter,
      factor === 1
        ? { Added: (s, e) => ({ state: { sum: s.sum + e.data.by }, dispatch: Sink.at("s").Take({ n: s.sum }) }) }
        : { Added: (s, e) => ({ state: { sum: s.sum + e.data.by * 2 }, dispatch: Sink.at("s").Take({ n: s.sum }) }) },
    );
  for (const factor of [1, 2]) {
    await using store = await open(version(factor));
    for (const by of [1, 2, 3]) await store.dispatch(add("a", by));
    await store.runProcessManagers();
    if (factor === 2) expect(await taken(store, "s")).toEqual([0, 1, 3, 12, 14, 18]);
  }
});
