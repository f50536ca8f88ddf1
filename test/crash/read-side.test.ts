import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, projection } from "eventfold-es";
import { expect, test } from "vitest";
import { Counter } from "../support/counter.ts";
import { Relay, Sink, taken } from "../support/relay.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";
import { Worker } from "../support/worker.ts";

const open = (directory: string) =>
  AggregateStore.builder(directory)
    .aggregate(Counter)
    .aggregate(Sink)
    .processManager(Relay)
    .processManagerMode("manual")
    .open();

test("process managers of two processes that are killed repeatedly do everything exactly once, in order", async () => {
  const directory = temporaryDirectory();
  await using store = await open(directory);
  const total = 240;
  const isRefused = (n: number): boolean => n % 11 === 0;
  const done = async (): Promise<number> =>
    (await Promise.all([0, 1, 2].map((k) => taken(store, `a${k}`)))).flat().length;
  let next = 1;
  for (const round of oneTo(3)) {
    const workers = oneTo(2).map(() => new Worker("relay-worker.ts", { directory, role: "relay", count: 0 }));
    for (const worker of workers) expect(await worker.line()).toBe("ready");
    const before = await done();
    for (const to = (total / 3) * round; next <= to; next++)
      await store.dispatch(Counter.at(`a${next % 3}`).Add({ by: isRefused(next) ? -next : next }));
    await until(async () => (await done()) >= before + 5);
    // During their work, one a little later than the other.
    await workers[0]?.kill();
    await pause(round * 5);
    await workers[1]?.kill();
    if (round === 2)
      fs.rmSync(path.join(directory, "process_managers/relay/checkpoint.eventfold.json"), { force: true });
  }
  await store.runProcessManagers();
  for (const k of [0, 1, 2])
    expect(await taken(store, `a${k}`)).toEqual(oneTo(total).filter((n) => n % 3 === k && !isRefused(n)));
  const refused = (await store.deadLetters()).map(({ command }) => (command as { data: { n: number } }).data.n);
  expect(refused.toSorted((a, b) => b - a)).toEqual(
    oneTo(total)
      .filter(isRefused)
      .map((n) => -n),
  );
});

test("events of another process reach a subscription and a projection within 100 ms", async () => {
  const directory = temporaryDirectory();
  const Totals = projection("totals", { total: 0 }).on(Counter, {
    Added: (s, e) => ({ total: s.total + e.data.by }),
  });
  await using store = await AggregateStore.builder(directory).aggregate(Counter).projection(Totals).open();
  const arrived = new Map<number, number>();
  const order: number[] = [];
  store.subscribe({}, ({ position }) => {
    arrived.set(position, Date.now());
    order.push(position);
  });
  const count = 30;
  const worker = new Worker("relay-worker.ts", { directory, role: "add", count });
  expect(await worker.line()).toBe("ready");
  worker.send("go");
  const delays: number[] = [];
  for (const n of oneTo(count)) {
    const { position, at } = JSON.parse(await worker.line()) as { position: number; at: number };
    expect((await store.projection(Totals, { after: position })).total).toBeGreaterThanOrEqual((n * (n + 1)) / 2);
    await until(() => arrived.has(position));
    delays.push((arrived.get(position) ?? Infinity) - at);
  }
  expect(await worker.exited).toBe(0);
  expect(order).toEqual(oneTo(count));
  // The median: a busy machine may delay any single event.
  expect(delays.toSorted((a, b) => a - b)[count / 2]).toBeLessThan(100);
});
