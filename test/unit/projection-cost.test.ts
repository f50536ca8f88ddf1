import { aggregate, AggregateStore, data, projection } from "eventfold-es";
import { SimulatedDisk } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { CountedFileSystem } from "../support/counted-file-system.ts";
import { Counter } from "../support/counter.ts";
import { oneTo } from "../support/store-files.ts";
import { totals } from "../support/totals.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

/** Events that a projection folds once more, to notice that a function of its handlers has changed: a few for each type. */
const SAMPLES = 8;

describe("the cost of a read", () => {
  /** Thousands of directories are slow on a real disk. */
  const diskInMemory = () => new SimulatedDisk({ record: false });

  test("with 1,000 streams of 100 events is one event for each new event, and no opened stream", async () => {
    const counted = await CountedFileSystem.create(diskInMemory());
    const { Totals, seen } = totals();
    const open = () =>
      AggregateStore.builder("/store")
        .aggregate(Counter)
        .projection(Totals)
        .durability("os")
        .fileSystem(counted.fileSystem)
        .open();
    const filler = await open();
    for (let i = 0; i < 1000; i += 100) {
      await filler.dispatchAll(oneTo(100).map((n) => Counter.at(`c-${i + n}`).AddMany({ count: 100 })));
    }
    // Includes a thousand snapshots, which are written in the background.
    await filler.close();
    const first = await open();
    counted.reset();
    expect((await first.projection(Totals)).total).toBe(100_000);
    expect(new Set(seen).size).toBe(100_000);
    expect(seen.length).toBeLessThanOrEqual(100_000 + SAMPLES);
    expect(counted.openedStreams).toEqual([]);

    const readNext = async (store: typeof first, samples = 0): Promise<void> => {
      const { position } = await store.dispatch(add("c-500"));
      counted.reset();
      seen.length = 0;
      expect((await store.projection(Totals)).total).toBe(position);
      expect(seen.filter((seenPosition) => seenPosition === position)).toHaveLength(1);
      expect(seen.length).toBeLessThanOrEqual(1 + samples);
      expect(counted.openedStreams).toEqual([]);
      expect(counted.logBytes).toBeLessThan(10_000);
      seen.length = 0;
      await store.projection(Totals);
      expect(seen).toEqual([]);
    };
    for (const _ of oneTo(3)) await readNext(first);
    await first.close();

    // Also from the checkpoint.
    const second = await open();
    await readNext(second, SAMPLES);
    await second.close();
  });

  test("with 20,000 streams is the same", async () => {
    const counted = await CountedFileSystem.create(diskInMemory());
    const seen: number[] = [];
    // Twenty types, because the disk in memory is slow with large directories.
    const kind = (n: number) =>
      aggregate(`kind-${n}`, {
        initial: 0,
        events: { Added: data<{ by: number }>() },
        commands: { Add: data<{ by: number }>() },
      }).define({
        handle: { Add: ({ data: d, emit }) => [emit.Added(d), emit.Added(d)] },
        apply: { Added: (n, { by }) => n + by },
      });
    const kinds = oneTo(20).map(kind);
    let Sum = projection("sum", () => ({ total: 0 })).on(kind(0), {});
    let builder = AggregateStore.builder("/store").aggregate(kind(0));
    for (const each of kinds) {
      builder = builder.aggregate(each);
      Sum = Sum.on(each, {
        Added: (s, e) => {
          seen.push(e.position);
          s.total += e.data.by;
        },
      });
    }
    await using store = await builder.projection(Sum).durability("os").fileSystem(counted.fileSystem).open();
    for (const each of kinds) await store.dispatchAll(oneTo(1000).map((n) => each.at(`c-${n}`).Add({ by: 1 })));
    counted.reset();
    expect((await store.projection(Sum)).total).toBe(40_000);
    expect(seen).toHaveLength(40_000);
    expect(counted.openedStreams).toEqual([]);
    for (const each of kinds.slice(0, 1)) await store.dispatch(each.at("c-123").Add({ by: 5 }));
    counted.reset();
    seen.length = 0;
    expect((await store.projection(Sum)).total).toBe(40_010);
    expect(seen).toEqual([40_001, 40_002]);
    expect(counted.openedStreams).toEqual([]);
    expect(counted.logBytes).toBeLessThan(10_000);
  }, 240_000);
});
