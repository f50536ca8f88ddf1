import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { CountedFileSystem } from "../support/counted-file-system.ts";
import { Counter } from "../support/counter.ts";
import { systemError } from "../support/intercepted-file-system.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";
import { firstPositions } from "../support/collect.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe("a named subscription", () => {
  const positionFile = (directory: string, name: string): string =>
    path.join(directory, "subscriptions", name, "checkpoint.eventfold.json");
  const savedPosition = (directory: string, name: string): number | undefined => {
    const file = positionFile(directory, name);
    return fs.existsSync(file)
      ? (JSON.parse(fs.readFileSync(file, "utf8")) as { position: number }).position
      : undefined;
  };
  const openAt = (directory: string) => AggregateStore.builder(directory).aggregate(Counter).open();
  const history = async (directory: string, events: number): Promise<void> => {
    await using store = await openAt(directory);
    for (const i of oneTo(events)) await store.dispatch(add(`a${i % 3}`));
  };

  test("continues in the next run after the last handled event", async () => {
    const directory = temporaryDirectory();
    await history(directory, 5);
    const seen: number[][] = [];
    for (const _ of oneTo(3)) {
      await using store = await openAt(directory);
      const run: number[] = [];
      store.subscribe({ name: "mail" }, ({ position }) => void run.push(position));
      await store.dispatch(add("a"));
      await until(() => run.at(-1) === 6 + seen.length);
      seen.push(run);
    }
    expect(seen).toEqual([oneTo(6), [7], [8]]);
  });

  test("in a loop has handled an event when the next one is requested, also when the store closes meanwhile", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const waiting = firstPositions(100, store.subscribe({ name: "mail" }));
    await pause(50);
    await store.close();
    // Closing the store is enough: it does not have to wait for the loop.
    expect(savedPosition(directory, "mail")).toBe(3);
    expect(await waiting).toEqual([1, 2, 3]);

    await history(directory, 2);
    const again = await openAt(directory);
    // The loop ends while it handles event 5, so event 5 is delivered again.
    expect(await firstPositions(2, again.subscribe({ name: "mail" }))).toEqual([4, 5]);
    expect(savedPosition(directory, "mail")).toBe(4);
    await again.close();
  });

  test("that the store ends while its loop handles an event delivers that event again", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const seen: number[] = [];
    let close: Promise<void> | undefined;
    for await (const { position } of store.subscribe({ name: "mail" })) {
      seen.push(position);
      if (position !== 2) continue;
      close = store.close();
      await pause(20);
    }
    await close;
    expect(seen).toEqual([1, 2]);
    expect(savedPosition(directory, "mail")).toBe(1);
  });

  test("saves its position soon, also when no event follows", async () => {
    const directory = temporaryDirectory();
    await using store = await openAt(directory);
    store.subscribe({ name: "mail" }, () => {});
    for (const _ of oneTo(3)) await store.dispatch(add("a"));
    await until(() => savedPosition(directory, "mail") === 3);
    await store.dispatch(add("a"));
    await until(() => savedPosition(directory, "mail") === 4);
  });

  test("saves its position among many events when its handler is slow", async () => {
    const directory = temporaryDirectory();
    await history(directory, 1);
    await using store = await openAt(directory);
    await store.dispatch(Counter.at("a").AddMany({ count: 999 }));
    let handled = 0;
    const subscription = store.subscribe({ name: "mail" }, async () => {
      await pause(20);
      handled++;
    });
    await until(() => (savedPosition(directory, "mail") ?? 0) > 0);
    expect(handled).toBeLessThan(500);
    await subscription.close();
  });

  test("does not move past an event whose handler fails", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    const store = await openAt(directory);
    let failures = 0;
    store.subscribe({ name: "mail", onError: () => failures++ }, ({ position }) => {
      if (position === 3) throw new Error("not this one");
    });
    await until(() => failures > 1);
    await store.close();
    expect(savedPosition(directory, "mail")).toBe(2);
    await using again = await openAt(directory);
    expect(await firstPositions(2, again.subscribe({ name: "mail" }))).toEqual([3, 4]);
  });

  test("counts events of other types as handled", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    await using store = await openAt(directory);
    store.subscribe({ name: "mail", types: ["Cleared"] }, () => {});
    await until(() => savedPosition(directory, "mail") === 4);
  });

  test("continues when its position cannot be saved, and saves it later", async () => {
    const directory = temporaryDirectory();
    const counted = await CountedFileSystem.create();
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .fileSystem(counted.fileSystem)
      .open();
    const seen: number[] = [];
    let refused = 0;
    counted.refuse = (file) => {
      if (!file.includes("/subscriptions/")) return undefined;
      refused++;
      return systemError("ENOSPC");
    };
    const byHandler = store.subscribe({ name: "mail" }, ({ position }) => void seen.push(position));
    const stop = new AbortController();
    const byLoop = firstPositions(100, store.subscribe({ name: "loop", signal: stop.signal }));
    await store.dispatch(add("a"));
    await until(() => refused > 1);
    await store.dispatch(add("a"));
    await until(() => seen.length === 2);
    counted.refuse = () => undefined;
    await until(() => savedPosition(directory, "mail") === 2 && savedPosition(directory, "loop") === 2);
    await store.dispatch(add("a"));
    await until(() => seen.length === 3);
    await byHandler.close();
    await until(() => savedPosition(directory, "loop") === 3);
    stop.abort();
    expect(await byLoop).toEqual([1, 2, 3]);
  });

  test("ends without an error when its position cannot be saved at the end", async () => {
    const directory = temporaryDirectory();
    const counted = await CountedFileSystem.create();
    counted.refuse = (file) => (file.includes("/subscriptions/") ? systemError("ENOSPC") : undefined);
    const store = await AggregateStore.builder(directory).aggregate(Counter).fileSystem(counted.fileSystem).open();
    await store.dispatch(add("a"));
    const loop = firstPositions(100, store.subscribe({ name: "loop" }));
    const { done } = store.subscribe({ name: "mail" }, () => {});
    await pause(30);
    await store.close();
    await done;
    expect(await loop).toEqual([1]);
  });

  test.each(["deleted", "damaged"])("starts over when its position is %s", async (how) => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const loop = firstPositions(100, store.subscribe({ name: "mail" }));
    await pause(50);
    await store.close();
    await loop;
    const file = positionFile(directory, "mail");
    if (how === "deleted") fs.rmSync(file);
    else fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace('"position":3', '"position":2'));
    await using again = await openAt(directory);
    expect(await firstPositions(3, again.subscribe({ name: "mail" }))).toEqual([1, 2, 3]);
  });

  test("misses no event of a store that was restored from a backup and has grown past its position", async () => {
    const [directory, backup] = [temporaryDirectory(), path.join(temporaryDirectory(), "backup")];
    await history(directory, 3);
    fs.cpSync(directory, backup, { recursive: true });
    const store = await openAt(directory);
    const loop = firstPositions(100, store.subscribe({ name: "mail" }));
    for (const _ of oneTo(3)) await store.dispatch(add("lost"));
    await until(() => savedPosition(directory, "mail") === 6);
    await store.close();
    await loop;
    const saved = fs.readFileSync(positionFile(directory, "mail"));
    fs.rmSync(directory, { recursive: true });
    fs.cpSync(backup, directory, { recursive: true });
    fs.mkdirSync(path.dirname(positionFile(directory, "mail")), { recursive: true });
    fs.writeFileSync(positionFile(directory, "mail"), saved);
    // The log is first shorter than the position, then longer.
    const shorter = await openAt(directory);
    expect(await firstPositions(3, shorter.subscribe({ name: "mail" }))).toEqual([1, 2, 3]);
    await shorter.close();
    fs.writeFileSync(positionFile(directory, "mail"), saved);
    await history(directory, 10);
    await using longer = await openAt(directory);
    expect(await firstPositions(13, longer.subscribe({ name: "mail" }))).toEqual(oneTo(13));
  });

  test("continues after the disk failed for a while", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const counted = await CountedFileSystem.create();
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .fileSystem(counted.fileSystem)
      .open();
    const seen: number[] = [];
    const errors: unknown[] = [];
    counted.refuseToRead = (file) => (file.includes("/commit_log/") ? systemError("EMFILE") : undefined);
    store.subscribe({ onError: (error) => errors.push(error) }, ({ position }) => void seen.push(position));
    await until(() => errors.length > 1);
    expect(seen).toEqual([]);
    counted.refuseToRead = () => undefined;
    await until(() => seen.length === 3);
    expect(seen).toEqual([1, 2, 3]);
  });
});
