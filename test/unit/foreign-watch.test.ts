import type { FileSystem } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { ForeignWatch } from "../../src/file-store/commit/foreign-watch.ts";
import { storePaths } from "../../src/file-store/disk/store-paths.ts";
import type { StreamKey } from "../../src/file-store/disk/stream-key.ts";

const COMMITTED = 100;

/** A store with so many streams of 100 committed bytes each. Adopting waits until it is let go. */
function watched(streams: number, isAlwaysAwaited = false) {
  const paths = storePaths("/store");
  const sizes = new Map<string, number>();
  const entries = Array.from({ length: streams }, (_, i) => ({ name: `s-${i}`, directory: true }));
  const counts = { sizes: 0, ends: 0, lists: 0 };
  const adopted: string[] = [];
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  const fs = {
    readDirectory(path: string) {
      if (path === paths.streams) return [{ name: "counter", directory: true }];
      counts.lists++;
      return entries;
    },
    open() {
      throw Object.assign(new Error("there is no registry"), { code: "ENOENT" });
    },
    stat: () => undefined,
  } as unknown as FileSystem;
  const watch = new ForeignWatch({
    fs,
    paths,
    files: {
      size(key: StreamKey) {
        counts.sizes++;
        return sizes.get(key) ?? COMMITTED;
      },
    } as never,
    index: {
      known: () => undefined,
      applied() {
        counts.ends++;
        return { end: COMMITTED };
      },
    } as never,
    follower: { catchUp() {} } as never,
    adopt: async (key) => {
      adopted.push(key);
      await held;
      sizes.delete(key);
    },
    isAlwaysAwaited,
  });
  const append = (i: number): void => void sizes.set(`counter/s-${i}`, COMMITTED + 50);
  return { watch, counts, adopted, append, letGo: () => letGo() };
}

/** Whether a promise is settled after other work had its turn. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => (done = true));
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  return done;
}

describe("looking for foreign lines", () => {
  test.each([
    { streams: 10_000, mode: "auto", waits: true },
    { streams: 10_001, mode: "auto", waits: false },
    { streams: 10_001, mode: "await", waits: true },
    { streams: 30_000, mode: "await", waits: true },
  ])("in $streams streams: a reader waits with $mode: $waits", async ({ streams, mode, waits }) => {
    const { watch, counts, adopted, append, letGo } = watched(streams, mode === "await");
    append(streams - 1);
    const look = watch.look();
    expect(await isDone(look)).toBe(!waits);
    letGo();
    await look;
    await watch.finish();
    expect(adopted).toEqual([`counter/s-${streams - 1}`]);
    // One size for each stream, and one list for each type, whatever is in the streams.
    expect(counts).toEqual({ sizes: streams, ends: streams, lists: 1 });
  });

  test("costs nothing when it is not due, and one size for each stream when it is", async () => {
    const { watch, counts, letGo } = watched(500);
    letGo();
    for (let i = 0; i < 50; i++) await watch.look();
    expect(counts).toEqual({ sizes: 500, ends: 500, lists: 1 });
  });

  test("is done once for readers that come at the same time", async () => {
    const { watch, counts, adopted, append, letGo } = watched(500);
    append(7);
    const looks = Array.from({ length: 20 }, () => watch.look());
    letGo();
    await Promise.all(looks);
    expect(adopted).toEqual(["counter/s-7"]);
    expect(counts.sizes).toBe(500);
  });

  test("of one stream costs one size, in a store of any size", async () => {
    const { watch, counts, adopted, append, letGo } = watched(20_000);
    letGo();
    append(3);
    await watch.lookAt("counter/s-3" as StreamKey);
    await watch.lookAt("counter/s-4" as StreamKey);
    expect(adopted).toEqual(["counter/s-3"]);
    expect(counts).toEqual({ sizes: 2, ends: 2, lists: 0 });
  });
});
