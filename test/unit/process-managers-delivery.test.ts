import { aggregate, AggregateStore, type AnyProcessManager, data, memory, processManager } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { CountedFileSystem } from "../support/counted-file-system.ts";
import { Counter } from "../support/counter.ts";
import { systemError } from "../support/intercepted-file-system.ts";
import { allEvents, openRelay, Relay, Sink, taken } from "../support/relay.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe.each(backends)("a process manager $backend", ({ builder }) => {
  const open = (manager: AnyProcessManager) =>
    (builder().aggregate(Counter).aggregate(Sink).processManagerMode("manual") as unknown as Loose)
      .processManager(manager)
      .open();
  // Results that JavaScript allows.
  interface Loose {
    processManager(manager: AnyProcessManager): { open(): Promise<AggregateStore<typeof Counter | typeof Sink>> };
  }

  test("handles each event once, in the order of the store, and keeps the order for each target", async () => {
    await using store = await open(Relay);
    for (const i of oneTo(60)) await store.dispatch(add(`a${i % 3}`, i));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 60, deadLettered: 0 });
    for (const k of [0, 1, 2]) expect(await taken(store, `a${k}`)).toEqual(oneTo(60).filter((i) => i % 3 === k));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("may return nothing, one envelope, several, or a reaction", async () => {
    const Many = processManager("many", { dispatches: [Sink] }).on(Counter, {
      Added: (_, { data: { by } }) =>
        by === 0
          ? undefined
          : by === 1
            ? Sink.at("s").Take({ n: 1 })
            : by === 2
              ? [Sink.at("s").Take({ n: 2 }), Sink.at("s").Take({ n: 3 })]
              : { dispatch: [Sink.at("s").Take({ n: by }), Sink.at("t").Take({ n: by })] },
      Cleared: () => ({}),
    });
    await using store = await open(Many);
    for (const by of [0, 1, 2, 4]) await store.dispatch(add("a", by));
    await store.dispatch(Counter.at("a").Clear());
    expect(await store.runProcessManagers()).toEqual({ dispatched: 5, deadLettered: 0 });
    expect(await taken(store, "s")).toEqual([1, 2, 3, 4]);
    expect(await taken(store, "t")).toEqual([4]);
  });

  test("keeps a state that it returns or changes", async () => {
    const Sums = processManager("sums", { dispatches: [Sink], initial: () => ({ sum: 0, ids: new Set<string>() }) }).on(
      Counter,
      {
        Added: (state, e) => {
          state.sum += e.data.by;
          state.ids.add(e.id);
          return Sink.at("sum").Take({ n: state.sum });
        },
        Cleared: () => ({ state: { sum: 100, ids: new Set<string>() } }),
      },
    );
    await using store = await open(Sums);
    for (const by of [1, 2, 3]) await store.dispatch(add("a", by));
    await store.runProcessManagers();
    await store.dispatch(Counter.at("a").Clear());
    await store.dispatch(add("a", 5));
    await store.runProcessManagers();
    expect(await taken(store, "sum")).toEqual([1, 3, 6, 105]);
  });

  test("passes causation, correlation and depth along the chain, and an envelope's context wins", async () => {
    const Chain = processManager("chain", { dispatches: [Sink, Counter] })
      .on(Counter, { Added: (_, e) => Sink.at(e.id).Take({ n: e.data.by }) })
      .on(Sink, {
        Taken: (_, e) => ({
          ...Counter.at("end").Clear(),
          context: { actor: "chain", correlationId: "own", metadata: { n: e.data.n } },
        }),
      });
    await using store = await open(Chain);
    await store.dispatch(add("a", 1), { correlationId: "r", actor: "ada" });
    await store.dispatch(add("b", 2));
    await store.runProcessManagers();
    const events = await allEvents(store);
    const [first, second, a, b] = events;
    expect(a).toMatchObject({ type: "Taken", correlationId: "r", causationId: first?.eventId, metadata: {} });
    expect(a).not.toHaveProperty("actor");
    // Without a correlation id the chain gets the first event's id.
    expect(b).toMatchObject({ type: "Taken", correlationId: second?.eventId, causationId: second?.eventId });
    const ends = events.filter(({ type }) => type === "Cleared");
    expect(ends).toMatchObject([
      { actor: "chain", correlationId: "own", causationId: a?.eventId, metadata: { n: 1 } },
      { actor: "chain", correlationId: "own", causationId: b?.eventId, metadata: { n: 2 } },
    ]);
  });

  test("handles two events with one id that were injected into two instances", async () => {
    const ToOne = processManager("to-one", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => Sink.at("one").Take({ n: e.data.by }),
    });
    await using store = await open(ToOne);
    await store.injectEvent(Counter, "a", { type: "Added", data: { by: 1 }, eventId: "same" });
    await store.injectEvent(Counter, "b", { type: "Added", data: { by: 2 }, eventId: "same" });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await taken(store, "one")).toEqual([1, 2]);
  });

  test("whose function throws stops at that event while others continue, and continues once it is fixed", async () => {
    let broken = true;
    const Fragile = processManager("fragile", { dispatches: [Sink], initial: { seen: 0 } }).on(Counter, {
      Added: (state, e) => {
        // The retry must not see a change that the failed attempt made.
        state.seen++;
        if (broken && e.data.by === 2) throw new Error("two is too much");
        return Sink.at("fragile").Take({ n: state.seen });
      },
    });
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Fragile)
      .processManager(Relay)
      .processManagerMode("manual")
      .open();
    for (const by of [1, 2, 3]) await store.dispatch(add("a", by));
    for (const _ of oneTo(2)) {
      await expect(store.runProcessManagers()).rejects.toMatchObject({
        code: "PROCESS_MANAGER_FAILED",
        message: expect.stringMatching(/fragile.*Added.*counter.*"a".*version 2.*position 2.*two is too much/),
      });
    }
    expect(await taken(store, "a")).toEqual([1, 2, 3]);
    expect(await taken(store, "fragile")).toEqual([1]);
    broken = false;
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await taken(store, "fragile")).toEqual([1, 2, 3]);
  });

  const nonsense: [string, unknown][] = [
    ["a promise", Promise.resolve()],
    ["a text", "Take"],
    ["a misspelt key", { state: {}, dispach: [] }],
    ["an envelope without an id", { aggregate: "sink", command: { type: "Take" } }],
    ["a command without a type", { dispatch: { aggregate: "sink", id: "s", command: {} } }],
    ["a time that is none", { schedule: [{ in: "soon", dispatch: Sink.at("s").Take({ n: 1 }) }] }],
    ["a date that is none", { schedule: [{ at: new Date(NaN), dispatch: Sink.at("s").Take({ n: 1 }) }] }],
    ["null in an array", [null]],
  ];
  test.each(nonsense)("that returns %s stops at that event with an error", async (_, result) => {
    const Silly = processManager("silly", { dispatches: [Sink] }).on(Counter, { Added: () => result as undefined });
    await using store = await open(Silly);
    await store.dispatch(add("a"));
    await expect(store.runProcessManagers()).rejects.toMatchObject({
      code: "PROCESS_MANAGER_FAILED",
      cause: { code: expect.stringMatching(/^INVALID_(REACTION|ARGUMENT)$/) },
    });
    expect(await store.listStreams("sink")).toEqual([]);
  });
});

describe("process managers that run automatically", () => {
  test("handle commits of their own store and of others", async () => {
    const directory = temporaryDirectory();
    await using store = await openRelay(directory, "automatic");
    await store.dispatch(add("a", 1));
    await until(async () => (await taken(store, "a")).length === 1);
    await using other = await openRelay(directory);
    await other.dispatch(add("a", 2));
    await until(async () => (await taken(store, "a")).length === 2);
    expect(await other.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  });

  test("report one that fails, retry it with growing delays, and do not wait for it", async () => {
    const tries: number[] = [];
    const Fragile = processManager("fragile", { dispatches: [Sink] }).on(Counter, {
      Added: () => {
        tries.push(performance.now());
        if (tries.length < 5) throw new Error(`no ${tries.length}`);
        return Sink.at("fragile").Take({ n: tries.length });
      },
    });
    const errors: unknown[] = [];
    await using store = await AggregateStore.builder(temporaryDirectory())
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Fragile)
      .processManager(Relay)
      .onProcessManagerError((error) => {
        errors.push(error);
        throw new Error("a listener that fails is no reason to stop");
      })
      .open();
    for (const i of oneTo(20)) {
      await store.dispatch(add("a", i));
      await pause(10);
      // New commits start the others, but not the one whose retry is not due.
      if (tries.length < 4) await until(async () => (await taken(store, "a")).length === i, 2000);
    }
    await until(async () => (await taken(store, "fragile")).length === 20);
    expect(errors.map((error) => (error as Error).message.slice(-4))).toEqual(["no 1", "no 2", "no 3", "no 4"]);
    const waits = oneTo(4).map((i) => (tries[i] ?? 0) - (tries[i - 1] ?? 0));
    for (const [i, least] of [45, 95, 190, 390].entries()) expect(waits[i]).toBeGreaterThanOrEqual(least);
  });

  test("retry while the disk is full, until it is not", async () => {
    const counted = await CountedFileSystem.create();
    const errors: unknown[] = [];
    await using store = await AggregateStore.builder(temporaryDirectory())
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Relay)
      .onProcessManagerError((error) => errors.push(error))
      .fileSystem(counted.fileSystem)
      .open();
    await store.dispatch(add("a", 1));
    await until(async () => (await taken(store, "a")).length === 1);
    let commits = 0;
    // Allows the event's commit, refuses the command's, and allows any that could replace it.
    counted.refuse = (file) => (file.includes("/commit_log/") && commits++ === 1 ? systemError("ENOSPC") : undefined);
    await store.dispatch(add("a", 2));
    await until(() => errors.length >= 1);
    expect(errors[0]).toMatchObject({ code: "DISK_FULL" });
    counted.refuse = () => undefined;
    await until(async () => (await taken(store, "a")).length === 2);
    expect(await taken(store, "a")).toEqual([1, 2]);
    expect(await store.deadLetters()).toEqual([]);
  });

  test("stop between two commands when the store closes, and continue in the next run", async () => {
    const directory = temporaryDirectory();
    const store = await openRelay(directory, "automatic");
    for (const i of oneTo(10)) await store.dispatch(add(`a${i % 4}`, i));
    await store.close();
    await using again = await openRelay(directory);
    await again.runProcessManagers();
    const all = (await Promise.all(oneTo(4).map((k) => taken(again, `a${k - 1}`)))).flat();
    expect(all.toSorted((a, b) => a - b)).toEqual(oneTo(10));
  });
});

test("a chain of commands that runs in a circle ends with a dead letter that names the loop, also over schedules", async () => {
  const Ping = aggregate("ping", { initial: 0, events: { Pinged: data() }, commands: { Ping: data() } }).define({
    handle: { Ping: ({ emit }) => emit.Pinged() },
    apply: { Pinged: (n) => n + 1 },
  });
  const Echo = processManager("echo", { dispatches: [Ping] }).on(Ping, {
    Pinged: (_, e) => ({ schedule: [{ in: 0, dispatch: Ping.at(e.id).Ping() }] }),
  });
  await using store = await AggregateStore.builder(memory())
    .aggregate(Ping)
    .processManager(Echo)
    .processManagerMode("manual")
    .open();
  await store.dispatch(Ping.at("p").Ping());
  expect(await store.runProcessManagers()).toEqual({ dispatched: 100, deadLettered: 1 });
  expect(await store.get(Ping, "p").state()).toBe(101);
  expect(await store.deadLetters()).toMatchObject([{ error: expect.stringMatching(/100 commands.*loop/) }]);
});
