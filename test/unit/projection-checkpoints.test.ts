import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { CountedFileSystem } from "../support/counted-file-system.ts";
import { Counter } from "../support/counter.ts";
import { systemError } from "../support/intercepted-file-system.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";
import { totals } from "../support/totals.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

function checkpointOf(directory: string, name: string): string {
  return path.join(directory, "projections", name, "checkpoint.eventfold.json");
}

describe("a projection's checkpoint", () => {
  const history = async (directory: string, commands = 20): Promise<void> => {
    await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
    for (const i of oneTo(commands)) await store.dispatch(add(`a${i % 3}`, i));
  };
  const read = async (directory: string, definition = totals()) => {
    const { Totals, seen } = definition;
    await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Totals).open();
    return { state: structuredClone(await store.projection(Totals)), seen };
  };

  test("is written on close, so the next run reads only new events", async () => {
    const directory = temporaryDirectory();
    await history(directory);
    expect((await read(directory)).seen).toHaveLength(20);
    await history(directory, 2);
    const { state, seen } = await read(directory);
    // The first two events and the 20th are folded once more, as samples.
    expect(seen).toEqual([1, 2, 20, 21, 22]);
    expect(state).toMatchObject({ total: 213, count: 22 });
    expect(fs.readdirSync(path.join(directory, "projections/totals"))).toEqual(["checkpoint.eventfold.json"]);
  });

  test("is written after a while, without a close", async () => {
    const directory = temporaryDirectory();
    const { Totals } = totals();
    await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Totals).open();
    await store.dispatch(add("a"));
    await store.projection(Totals);
    expect(fs.existsSync(checkpointOf(directory, "totals"))).toBe(false);
    await until(() => fs.existsSync(checkpointOf(directory, "totals")), 5000);
  });

  test("is written after many events, without a close", async () => {
    const directory = temporaryDirectory();
    const { Totals } = totals();
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .projection(Totals)
      .durability("os")
      .open();
    await store.dispatch(Counter.at("a").AddMany({ count: 10_000 }));
    await store.projection(Totals);
    await until(() => fs.existsSync(checkpointOf(directory, "totals")), 500);
  });

  test("that is deleted or damaged changes speed, not results", async () => {
    const directory = temporaryDirectory();
    await history(directory);
    const { state } = await read(directory);
    const file = checkpointOf(directory, "totals");
    const whole = fs.readFileSync(file);
    const damages: (Buffer | string | undefined)[] = [
      undefined,
      "",
      "null",
      "[]",
      "{}",
      "{",
      '{"state":{"total":1},"cursors":null}',
      '{"state":1}',
      '{"cursors":{}}',
      "\0".repeat(100),
      whole.toString().replace('"total":210', '"total":999'),
      whole.toString().replace('"position":20', '"position":19'),
      whole.toString().replace('"position":20', '"position":21'),
    ];
    for (let cut = 1; cut < whole.length; cut += 7) damages.push(whole.subarray(0, cut));
    for (let at = 0; at < whole.length; at += 3) {
      const flipped = Buffer.from(whole);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      damages.push(flipped);
    }
    for (const damage of damages) {
      if (damage === undefined) fs.rmSync(file);
      else fs.writeFileSync(file, damage);
      const after = await read(directory);
      expect(after.state).toEqual(state);
      expect(after.seen).toHaveLength(20);
    }
  });

  test("that is old is continued", async () => {
    const directory = temporaryDirectory();
    await history(directory);
    await read(directory);
    const old = fs.readFileSync(checkpointOf(directory, "totals"));
    await history(directory);
    const { state } = await read(directory);
    fs.writeFileSync(checkpointOf(directory, "totals"), old);
    const after = await read(directory);
    expect(after.state).toEqual(state);
    // And three samples: the first two events and the 20th.
    expect(after.seen).toHaveLength(23);
  });

  test("that is ahead of the log is not used", async () => {
    const [directory, longer] = [temporaryDirectory(), temporaryDirectory()];
    await history(directory, 5);
    const { state } = await read(directory);
    await history(longer, 30);
    await read(longer);
    fs.copyFileSync(checkpointOf(longer, "totals"), checkpointOf(directory, "totals"));
    expect((await read(directory)).state).toEqual(state);
  });

  test("of a history that a backup replaced is not used, even when the log has grown beyond it", async () => {
    const [directory, backup] = [temporaryDirectory(), temporaryDirectory()];
    await history(directory, 5);
    fs.cpSync(directory, backup, { recursive: true });
    await history(directory, 10);
    await read(directory);
    // The backup replaces everything except the projections.
    for (const part of ["streams", "meta", "commit_log"]) {
      fs.rmSync(path.join(directory, part), { recursive: true });
      fs.cpSync(path.join(backup, part), path.join(directory, part), { recursive: true });
    }
    await using store = await AggregateStore.builder(directory).aggregate(Counter).open();
    for (const _ of oneTo(20)) await store.dispatch(add("other", 1000));
    expect((await read(directory)).state.total).toBe(20_015);
  });

  test("of other code is not used: another handler, initial state or upcaster", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    const readWith = async (definition: Parameters<AggregateStore["projection"]>[0]) => {
      await using store = await AggregateStore.open(directory);
      return structuredClone(await store.projection(definition)) as unknown;
    };
    const named = (initial: number) => projection("changing", () => ({ n: initial }));
    expect(await readWith(named(0).on(Counter, { Added: (s, e) => ({ n: s.n + e.data.by }) }))).toEqual({ n: 10 });
    expect(await readWith(named(0).on(Counter, { Added: (s, e) => ({ n: s.n + e.data.by * 2 }) }))).toEqual({ n: 20 });
    expect(await readWith(named(5).on(Counter, { Added: (s, e) => ({ n: s.n + e.data.by * 2 }) }))).toEqual({ n: 25 });
    expect(await readWith(named(5).on(Counter, { Cleared: () => ({ n: 0 }) }))).toEqual({ n: 5 });
    const Upcast = aggregate("counter", {
      initial: 0,
      events: { Added: data<{ by: number }>().to<{ by: number }>(({ by }) => ({ by: by * 100 })), Cleared: data() },
      commands: {},
    });
    expect(await readWith(named(5).on(Upcast, { Added: (s, e) => ({ n: s.n + e.data.by * 2 }) }))).toEqual({ n: 2005 });
  });

  test("that cannot be written does not fail the read", async () => {
    const directory = temporaryDirectory();
    const counted = await CountedFileSystem.create();
    counted.refuse = (file) => (file.includes("/projections/") ? systemError("ENOSPC") : undefined);
    const { Totals } = totals();
    const store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .projection(Totals)
      .fileSystem(counted.fileSystem)
      .open();
    await store.dispatch(Counter.at("a").AddMany({ count: 10_001 }));
    expect((await store.projection(Totals)).total).toBe(10_001);
    await store.rebuildProjection(Totals);
    expect((await store.projection(Totals)).total).toBe(10_001);
    await store.close();
    expect(fs.existsSync(checkpointOf(directory, "totals"))).toBe(false);
  });

  test("is replaced by a new fold if JSON would change the state", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const Ids = projection("ids", () => new Map<string, number>()).on(Counter, {
      Added: (s, e) => void s.set(e.id, e.data.by),
    });
    for (const _ of oneTo(2)) {
      await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Ids).open();
      expect([...(await store.projection(Ids))]).toEqual([
        ["a1", 1],
        ["a2", 2],
        ["a0", 3],
      ]);
    }
  });

  test("lets a fixed handler continue at the failed event after a restart", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    const rule = { limit: Infinity };
    const seen: number[] = [];
    const Limited = projection("limited", () => ({ total: 0 })).on(Counter, {
      Added: (s, e) => {
        seen.push(e.position);
        if (e.data.by > rule.limit) throw new Error("over the limit");
        s.total += e.data.by;
      },
    });
    const open = () => AggregateStore.builder(directory).aggregate(Counter).projection(Limited).open();
    const first = await open();
    expect((await first.projection(Limited)).total).toBe(10);
    await first.close();
    const second = await open();
    rule.limit = 50;
    await second.dispatch(add("a", 60));
    await expect(second.projection(Limited)).rejects.toMatchObject({ code: "PROJECTION_FAILED" });
    await second.close();
    rule.limit = Infinity;
    seen.length = 0;
    const third = await open();
    expect((await third.projection(Limited)).total).toBe(70);
    expect(seen).toEqual([1, 2, 5]);
    await third.close();
  });
});
