import fs from "node:fs";
import path from "node:path";
import { aggregate, AggregateStore, data, processManager } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Promises of the documentation that an independent review once found broken. */
const Job = aggregate("job", {
  initial: { runs: 0 },
  events: { Ran: data(), Paid: data<{ n: number }>() },
  commands: { Run: data(), Pay: data<{ n: number }>(), Nothing: data() },
}).define({
  handle: { Run: ({ emit }) => emit.Ran(), Pay: ({ data: d, emit }) => emit.Paid(d), Nothing: () => undefined },
  apply: { Ran: (s) => ({ runs: s.runs + 1 }), Paid: (s) => s },
});

describe.each(backends)("$backend", ({ builder }) => {
  test("a command that is scheduled again every hour is no loop", async () => {
    const clock = manualClock(0);
    const Hourly = processManager("hourly", { dispatches: [Job], initial: {} }).on(Job, {
      Ran: () => ({ schedule: [{ in: "1h", dispatch: Job.at("a").Run() }] }),
    });
    const open = builder().aggregate(Job).processManager(Hourly).processManagerMode("manual").clock(clock.now);
    await using store = await open.open();
    await store.dispatch(Job.at("a").Run());
    for (let hour = 0; hour < 150; hour++) {
      await store.runProcessManagers();
      clock.advance("1h");
    }
    await store.runProcessManagers();
    expect(await store.deadLetters()).toEqual([]);
    expect((await store.get(Job, "a").state()).runs).toBe(151);
  });

  test("an idempotency key that a process manager sets counts", async () => {
    const Fee = processManager("fee", { dispatches: [Job], initial: {} }).on(Job, {
      Ran: () => ({
        dispatch: { ...Job.at("fees").Pay({ n: 1 }), context: { idempotencyKey: "fee-2026" } },
      }),
    });
    const open = builder().aggregate(Job).processManager(Fee).processManagerMode("manual");
    await using store = await open.open();
    await store.dispatch(Job.at("a").Run());
    await store.dispatch(Job.at("a").Run());
    await store.runProcessManagers();
    await store.dispatch(Job.at("fees").Pay({ n: 1 }), { idempotencyKey: "fee-2026" });
    const events = [];
    for await (const event of store.readEvents("job", "fees")) events.push(event);
    expect(events).toHaveLength(1);
  });

  test("a command without events that comes first in dispatchAll returns its instance's version and position", async () => {
    await using store = await builder().aggregate(Job).open();
    await store.dispatch(Job.at("a").Run());
    await store.dispatch(Job.at("b").Run());
    const { results } = await store.dispatchAll([Job.at("a").Nothing(), Job.at("a").Run()]);
    expect(results.map(({ version, position }) => [version, position])).toEqual([
      [1, 1],
      [2, 3],
    ]);
  });

  test("a loop over future events begins with its first request", async () => {
    await using store = await builder().aggregate(Job).open();
    await store.dispatch(Job.at("a").Run());
    const events = store.subscribe({ from: "now" })[Symbol.asyncIterator]();
    await store.dispatch(Job.at("a").Pay({ n: 1 }));
    expect((await events.next()).value).toMatchObject({ type: "Paid" });
    await events.return?.();
  });

  test("only one subscription at a time may have a name", async () => {
    await using store = await builder().aggregate(Job).open();
    const first = store.subscribe({ name: "mailer" }, () => {});
    const again = () => store.subscribe({ name: "mailer" }, () => {});
    expect(again).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    await expect(store.subscribe({ name: "mailer" })[Symbol.asyncIterator]().next()).rejects.toThrow("mailer");
    await first.close();
    await again().close();
  });

  test("a caller that commits without a pause does not delay timers", async () => {
    await using store = await builder().aggregate(Job).open();
    let fired = false;
    setTimeout(() => (fired = true), 5);
    const started = performance.now();
    while (!fired && performance.now() - started < 20_000) await store.dispatch(Job.at("a").Run());
    expect(fired).toBe(true);
  });
});

test("a payload of a newer schema version is refused, also by a contract without upcasters", async () => {
  const directory = temporaryDirectory();
  const V1 = data<{ n: number }>();
  const newer = aggregate("thing", {
    initial: { n: 0 },
    events: { Made: V1.to<{ n: number }>(({ n }) => ({ n: n * 2 })) },
    commands: { Make: V1 },
  }).define({
    handle: { Make: ({ data: d, emit }) => emit.Made(d) },
    apply: { Made: (_, { n }) => ({ n }) },
  });
  const older = aggregate("thing", { initial: { n: 0 }, events: { Made: V1 }, commands: { Make: V1 } }).define({
    handle: { Make: ({ data: d, emit }) => emit.Made(d) },
    apply: { Made: (_, { n }) => ({ n }) },
  });
  let store = await AggregateStore.open(directory);
  await store.get(newer, "a").execute(newer.commands.Make({ n: 1 }));
  await store.close();
  store = await AggregateStore.open(directory);
  await expect(store.get(older, "a").state()).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
  await store.close();
});

test("events that an older commit log lacks are adopted again", async () => {
  const directory = temporaryDirectory();
  const old = path.join(temporaryDirectory(), "old");
  let store = await AggregateStore.open(directory);
  await store.get(Job, "a").execute({ type: "Run" });
  await store.close();
  fs.cpSync(directory, old, { recursive: true });
  store = await AggregateStore.open(directory);
  await store.get(Job, "a").execute({ type: "Run" });
  await store.close();
  for (const part of ["commit_log", "meta"]) {
    fs.rmSync(path.join(directory, part), { recursive: true });
    fs.cpSync(path.join(old, part), path.join(directory, part), { recursive: true });
  }
  store = await AggregateStore.open(directory);
  await expect(store.get(Job, "a").state()).rejects.toMatchObject({ code: "CORRUPT_STREAM", line: 2 });
  await store.close();
});

test("after a change of its code, a process manager handles new events and no handled ones, except with a new handler", async () => {
  const directory = temporaryDirectory();
  const open = (code: "old" | "new") => {
    const Manager = processManager("m", { dispatches: [Job], initial: {} }).on(
      Job,
      code === "old"
        ? { Paid: (_, { id }) => (id === "in" ? { dispatch: Job.at("out").Run() } : undefined) }
        : {
            Paid: (_, { id }) => (id === "in" ? { dispatch: [Job.at("out").Run(), Job.at("out").Run()] } : undefined),
            Ran: (_, { id }) => (id === "in" ? { dispatch: Job.at("ran").Run() } : undefined),
          },
    );
    const builder = AggregateStore.builder(directory).aggregate(Job).processManager(Manager);
    return builder.processManagerMode("manual").open();
  };
  let store = await open("old");
  const run = async () => {
    for (const command of [{ type: "Run" }, { type: "Pay", data: { n: 1 } }, { type: "Run" }] as const)
      await store.get(Job, "in").execute(command);
  };
  await run();
  expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  await store.close();
  store = await open("new");
  // `Ran` had no handler: it begins with the first event.
  expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
  await run();
  expect(await store.runProcessManagers()).toEqual({ dispatched: 4, deadLettered: 0 });
  await store.close();
});
