import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Directories that a store of format 1 has written, before and after `reclaim`. They are never written again. */
const FIXTURES = path.join(import.meta.dirname, "fixtures");

const Counter = aggregate("counter", {
  initial: { sum: 0, note: "" },
  events: { Added: data<{ by: number; note: string }>() },
  commands: { Add: data<{ by: number; note: string }>() },
}).define({
  handle: { Add: ({ data: added, emit }) => emit.Added(added) },
  apply: { Added: (state, { by, note }) => ({ sum: state.sum + by, note }) },
  snapshotEvery: 2,
});

const Sums = projection("sums", { added: 0, byId: {} as Record<string, number> }).on(Counter, {
  Added: (sums, { id, data: { by } }) => {
    sums.added += by;
    sums.byId[id] = (sums.byId[id] ?? 0) + by;
  },
  $deleted: (sums, { id }) => void delete sums.byId[id],
});

/** Adds to `all` what is added to any other counter. */
const Total = processManager("total", { dispatches: [Counter] }).on(Counter, {
  Added: (_state, { id, data: { by } }) => (id === "all" ? undefined : Counter.at("all").Add({ by, note: "total" })),
});

let time = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
let ids = 0;
const open = (directory: string) =>
  AggregateStore.builder(directory)
    .aggregate(Counter)
    .projection(Sums)
    .processManager(Total)
    .processManagerMode("manual")
    .clock(() => time++)
    .ids(() => `e-${++ids}`)
    .open();

/** How the fixtures were made. */
async function write(directory: string, isReclaimed: boolean): Promise<void> {
  const store = await open(directory);
  const add = (id: string, by: number) =>
    store.get(Counter, id).execute(Counter.commands.Add({ by, note: `of ${id}` }), { idempotencyKey: `${id}-${by}` });
  for (const by of [1, 2, 3]) for (const id of ["gone", "compacted", "kept"]) await add(id, by);
  await store.projection(Sums);
  await store.runProcessManagers();
  await store.delete(Counter, "gone", { reason: "asked to" });
  await store.compact(Counter, "compacted", { into: ({ sum, note }) => [Counter.events.Added({ by: sum, note })] });
  await add("kept", 4);
  await store.runProcessManagers();
  if (isReclaimed) await store.reclaim();
  await add("gone", 5);
  await store.close();
}

/** To make fixtures: only for a new format. */
if (process.env["WRITE_FIXTURES"] !== undefined)
  for (const name of ["before-reclaim", "after-reclaim"]) {
    [time, ids] = [Date.UTC(2026, 0, 2, 3, 4, 5, 678), 0];
    fs.rmSync(path.join(FIXTURES, name), { recursive: true, force: true });
    await write(path.join(FIXTURES, name), name === "after-reclaim");
  }

function copyOf(name: string): string {
  const directory = temporaryDirectory();
  fs.cpSync(path.join(FIXTURES, name), directory, { recursive: true });
  return directory;
}

describe.each(["before-reclaim", "after-reclaim"])("a directory %s", (name) => {
  test("opens with all that it had, and goes on", async () => {
    const directory = copyOf(name);
    expect((await verify(directory)).findings.filter(({ severity }) => severity !== "info")).toEqual([]);
    await using store = await open(directory);
    const events = await collect(store.events({ aggregates: [Counter] }));
    const texts = events.map(
      (event) =>
        `${event.position} ${event.id}@${event.version} ${event.type === "Added" ? event.data.by : event.type}`,
    );
    expect(texts).toEqual([
      ...["3 kept@1 1", "6 kept@2 2", "9 kept@3 3"],
      ...Array.from({ length: 9 }, (_, i) => `${10 + i} all@${1 + i} ${1 + Math.floor(i / 3)}`),
      ...["19 gone@4 $deleted", "21 compacted@5 6", "22 kept@4 4", "23 all@10 4", "24 gone@5 5"],
    ]);
    expect(await store.get(Counter, "compacted").state()).toEqual({ sum: 6, note: "of compacted" });
    expect(await store.get(Counter, "all").state()).toEqual({ sum: 22, note: "total" });
    expect((await store.projection(Sums)).byId).toEqual({ gone: 5, compacted: 6, kept: 10, all: 22 });
    await store.rebuildProjection(Sums);
    expect((await store.projection(Sums)).byId).toEqual({ gone: 5, compacted: 6, kept: 10, all: 22 });
    const again = Counter.commands.Add({ by: 2, note: "again" });
    expect(await store.get(Counter, "compacted").execute(again, { idempotencyKey: "compacted-2" })).toMatchObject({
      events: [],
      state: { sum: 6 },
    });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  });

  test("can be reclaimed", async () => {
    const directory = copyOf(name);
    await using store = await open(directory);
    const before = await collect(store.events());
    await store.runProcessManagers();
    await store.reclaim();
    expect((await collect(store.events())).slice(0, before.length)).toEqual(before);
    expect((await verify(directory)).clean).toBe(true);
  });
});
