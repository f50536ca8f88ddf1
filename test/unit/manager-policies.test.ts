import { AggregateStore, memory, processManager } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { sender, type SenderOptions, Source, Target } from "../support/sender.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe.each(backends)("a process manager $backend", ({ builder }) => {
  async function opened(options: SenderOptions, clock = manualClock()) {
    const skipped: unknown[] = [];
    const store = await builder()
      .aggregate(Source)
      .aggregate(Target)
      .processManager(sender(options))
      .processManagerMode("manual")
      .onProcessManagerError((error) => skipped.push(error))
      .clock(clock.now)
      .open();
    const send = (id: string, n: number, ...more: number[]) => store.dispatch(Source.at(id).Send({ n, more }));
    const limit = (to: number) => store.dispatch(Target.at("t").Limit({ to }));
    const got = async () => (await store.get(Target, "t").state()).got;
    const letters = async () =>
      (await store.deadLetters()).map(({ command, waiting }) => {
        const { data: sent } = command as { readonly data: { readonly n: number } };
        return waiting === true ? `${sent.n} waits` : `${sent.n}`;
      });
    return { store, send, limit, got, letters, skipped, clock };
  }

  test("makes a command that fails a dead letter if nothing else is said", async () => {
    const { store, send, limit, got, letters } = await opened({});
    await limit(5);
    for (const n of [7, 3, 666, 8]) await send("s", n);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 2 });
    expect(await got()).toEqual([7, 8]);
    expect(await letters()).toEqual(["3", "666"]);
    await store.close();
  });

  test("sends a dead letter with another payload, once, or leaves it as it was", async () => {
    const { store, send, limit, got, letters } = await opened({ order: "instance" });
    await limit(5);
    for (const n of [3, 6]) await send("s", n);
    await store.runProcessManagers();
    const key = (await store.deadLetters())[0]?.key ?? "";
    await expect(store.replayDeadLetter(key, { data: { n: 4 } })).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
    await expect(store.replayDeadLetter(key, { data: { n: NaN } })).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
    expect(await letters()).toEqual(["3", "6 waits"]);
    await store.replayDeadLetter(key, { data: { n: 5 } });
    expect(await got()).toEqual([5, 6]);
    await expect(store.replayDeadLetter(key, { data: { n: 7 } })).rejects.toMatchObject({
      code: "UNKNOWN_DEAD_LETTER",
    });
    await store.close();
  });

  test("skips a command that fails, tells the listener, and never sends it again", async () => {
    const { store, send, limit, got, letters, skipped } = await opened({ onError: { command: "skip" } });
    await limit(5);
    for (const n of [7, 3, 666, 8]) await send("s", n);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    await limit(0);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await got()).toEqual([7, 8]);
    expect(await letters()).toEqual([]);
    expect(skipped).toMatchObject([
      {
        code: "PROCESS_MANAGER_FAILED",
        message:
          'process manager sender skipped the command Get of target "t", caused by source "s", version 2: target "t" rejected Get: TooSmall',
        cause: { code: "COMMAND_REJECTED" },
      },
      { cause: expect.any(RangeError) as unknown },
    ]);
    await store.close();
  });

  test("stops at a command that fails, and goes on there", async () => {
    const { store, send, limit, got, letters } = await opened({ onError: { command: "stop" } });
    await limit(5);
    for (const n of [7, 3, 8]) await send("s", n);
    for (const _ of [1, 2])
      await expect(store.runProcessManagers()).rejects.toMatchObject({
        code: "PROCESS_MANAGER_FAILED",
        message: expect.stringContaining("stopped at the command Get") as unknown,
        cause: { rejection: { type: "TooSmall" } },
      });
    expect(await got()).toEqual([7]);
    await limit(0);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await got()).toEqual([7, 3, 8]);
    expect(await letters()).toEqual([]);
    await store.close();
  });

  test.each([
    { otherwise: undefined, dispatched: 1, letters: ["3"] },
    { otherwise: "skip", dispatched: 1, letters: [] },
    { otherwise: "stop", dispatched: undefined, letters: [] },
  ] as const)("tries a command again with pauses by the store's clock, then $otherwise", async (expected) => {
    const { otherwise } = expected;
    const retry = { attempts: 3, backoff: "1h" } as const;
    const policy = otherwise === undefined ? { retry } : { retry, otherwise };
    const { store, send, limit, letters, skipped, clock } = await opened({ onError: { command: policy } });
    await limit(5);
    for (const n of [3, 8]) await send("s", n);
    const run = store.runProcessManagers().catch((error: unknown) => error);
    const start = clock.now();
    let done = false;
    void run.then(() => (done = true));
    while (!done) {
      clock.advance("30m");
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    expect(clock.now() - start).toBeGreaterThanOrEqual(2 * 3_600_000);
    if (expected.dispatched === undefined) expect(await run).toMatchObject({ code: "PROCESS_MANAGER_FAILED" });
    else expect(await run).toMatchObject({ dispatched: expected.dispatched });
    expect(await letters()).toEqual(expected.letters);
    expect(skipped).toHaveLength(otherwise === "skip" ? 1 : 0);
    await store.close();
  });

  test("succeeds with a command that is tried again", async () => {
    const retry = { attempts: 5, backoff: () => 0 };
    const { store, send, limit, got } = await opened({ onError: { command: { retry } } });
    await limit(5);
    await send("s", 3);
    await Promise.all([store.runProcessManagers(), limit(0)]);
    await store.runProcessManagers();
    expect([...(await got()), ...(await store.deadLetters())]).toHaveLength(1);
    await store.close();
  });

  describe("with order", () => {
    const ordered = { order: "instance" } as const;

    test("lets later commands of the same instance wait for a dead letter, and sends them after a replay", async () => {
      const { store, send, limit, got, letters } = await opened(ordered);
      await limit(5);
      await send("a", 6, 3, 7);
      await send("b", 8);
      for (const n of [9, 10]) await send("a", n);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 4 });
      expect(await got()).toEqual([6, 8]);
      expect(await letters()).toEqual(["3", "7 waits", "9 waits", "10 waits"]);
      const [first, second] = await store.deadLetters();
      expect(second?.error).toBe(`command execution failed: waits for the dead letter ${first?.key}`);
      await expect(store.replayDeadLetter(second?.key ?? "")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      await expect(store.replayDeadLetter(first?.key ?? "")).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
      expect(await letters()).toHaveLength(4);
      await limit(0);
      await store.replayDeadLetter(first?.key ?? "");
      expect(await got()).toEqual([6, 8, 3, 7, 9, 10]);
      expect(await letters()).toEqual([]);
      await send("a", 11);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
      await store.close();
    });

    test("goes on after a letter that is dropped, until the next one that fails", async () => {
      const { store, send, limit, got, letters } = await opened(ordered);
      await limit(5);
      for (const n of [3, 6, 4, 7]) await send("a", n);
      await store.runProcessManagers();
      expect(await letters()).toEqual(["3", "6 waits", "4 waits", "7 waits"]);
      await store.dropDeadLetter((await store.deadLetters())[0]?.key ?? "");
      expect(await got()).toEqual([6]);
      expect((await letters()).sort()).toEqual(["4", "7 waits"]);
      // One that waits can be given up as well.
      const waiting = (await store.deadLetters()).find((letter) => letter.waiting === true);
      await send("a", 8);
      await store.runProcessManagers();
      await store.dropDeadLetter(waiting?.key ?? "");
      await limit(0);
      const failed = (await store.deadLetters()).find((letter) => letter.waiting === undefined);
      await store.replayDeadLetter(failed?.key ?? "");
      expect(await got()).toEqual([6, 4, 8]);
      expect(await letters()).toEqual([]);
      await store.close();
    });

    test("skips, stops and tries again as told while it goes on", async () => {
      const { store, send, limit, got, letters } = await opened({
        ...ordered,
        onError: { command: { retry: { attempts: 2, backoff: () => 0 }, otherwise: "dead-letter" } },
      });
      await limit(5);
      for (const n of [3, 4, 9]) await send("a", n);
      await store.runProcessManagers();
      await store.dropDeadLetter((await store.deadLetters())[0]?.key ?? "");
      expect((await letters()).sort()).toEqual(["4", "9 waits"]);
      expect(await got()).toEqual([]);
      await store.close();
    });
  });
});

describe("a process manager with order in a directory", () => {
  const open = (directory: string, time = 0) =>
    AggregateStore.builder(directory)
      .aggregate(Source)
      .aggregate(Target)
      .processManager(Scheduler)
      .processManagerMode("manual")
      .clock(() => time)
      .open();
  const Scheduler = processManager("scheduler", { dispatches: [Target], order: "instance" }).on(Source, {
    Sent: (_, { data: { n } }) => {
      const dispatch = { ...Target.at("t").Get({ n }), context: { idempotencyKey: `k-${n}`, causationId: "c" } };
      return n === 20 ? { schedule: [{ in: "1h", dispatch }] } : { dispatch };
    },
  });

  test("keeps what waits through restarts, scheduled commands too, and sends each with its key", async () => {
    const directory = temporaryDirectory();
    {
      await using store = await open(directory);
      await store.dispatch(Target.at("t").Limit({ to: 5 }));
      for (const n of [20, 3, 6]) await store.dispatch(Source.at("a").Send({ n }));
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 2 });
    }
    {
      await using store = await open(directory, 2 * 3_600_000);
      await store.dispatch(Source.at("a").Send({ n: 7 }));
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 2 });
      await store.dispatch(Target.at("t").Limit({ to: 0 }));
      expect((await store.deadLetters()).map(({ waiting }) => waiting ?? false)).toEqual([false, true, true, true]);
    }
    await using store = await open(directory, 3 * 3_600_000);
    const [first] = await store.deadLetters();
    await store.replayDeadLetter(first?.key ?? "");
    expect((await store.get(Target, "t").state()).got).toEqual([3, 6, 7, 20]);
    const again = await store.dispatch(Target.at("t").Get({ n: 1 }), { idempotencyKey: "k-7" });
    expect(again.events[0]).toMatchObject({ data: { n: 7 }, causationId: "c" });
    expect(await store.deadLetters()).toEqual([]);
  });

  test("goes on after a process that settled a letter and died", async () => {
    const directory = temporaryDirectory();
    await using store = await open(directory);
    await store.dispatch(Target.at("t").Limit({ to: 5 }));
    for (const n of [3, 6]) await store.dispatch(Source.at("a").Send({ n }));
    await store.runProcessManagers();
    // A program without the order settles the letter alone.
    const Unordered = processManager("scheduler", { dispatches: [Target] });
    {
      await using other = await AggregateStore.builder(directory)
        .aggregate(Source)
        .aggregate(Target)
        .processManager(Unordered)
        .processManagerMode("manual")
        .open();
      await other.dropDeadLetter((await other.deadLetters())[0]?.key ?? "");
    }
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect((await store.get(Target, "t").state()).got).toEqual([6]);
  });
});

describe.each(backends)("a reaction that fails $backend", ({ builder }) => {
  /** Sends the sum of all numbers so far; changes its state before it fails for 13. */
  const summing = (options: SenderOptions, isFixed = false) =>
    processManager("sender", { dispatches: [Target], initial: { sum: 0 }, ...(options as object) }).on(Source, {
      Sent: (state, { data: { n } }) => {
        state.sum += n;
        if (n === 13 && !isFixed) throw new RangeError("13 is a bug");
        return { state, dispatch: Target.at("t").Get({ n: state.sum }) };
      },
    });
  async function opened(manager: ReturnType<typeof summing>, storage = builder().aggregate(Source).aggregate(Target)) {
    const errors: unknown[] = [];
    const store = await storage
      .processManager(manager)
      .processManagerMode("manual")
      .onProcessManagerError((error) => errors.push(error))
      .open();
    const send = (n: number) => store.dispatch(Source.at("s").Send({ n }));
    const got = async () => (await store.get(Target, "t").state()).got;
    return { store, send, got, errors };
  }

  test("stops the manager if nothing else is said, after the attempts that are allowed", async () => {
    for (const onError of [{}, { reaction: { retry: { attempts: 3, backoff: () => 0 } } }]) {
      const { store, send, got } = await opened(summing({ onError }));
      for (const n of [1, 13, 2]) await send(n);
      for (const _ of [1, 2])
        await expect(store.runProcessManagers()).rejects.toMatchObject({
          code: "PROCESS_MANAGER_FAILED",
          cause: expect.any(RangeError) as unknown,
        });
      expect(await got()).toEqual([1]);
      await store.close();
    }
  });

  test.each(["skip", { retry: { attempts: 2, backoff: () => 0 }, otherwise: "skip" }] as const)(
    "is skipped with %j: the state is as before, and no version of the code reacts to the event again",
    async (reaction) => {
      const storage = builder().aggregate(Source).aggregate(Target);
      {
        const { store, send, got, errors } = await opened(summing({ onError: { reaction } }), storage);
        for (const n of [1, 13, 2, 13, 13, 3]) await send(n);
        expect(await store.runProcessManagers()).toEqual({ dispatched: 3, deadLettered: 0 });
        expect(await got()).toEqual([1, 3, 6]);
        expect(errors).toHaveLength(3);
        expect(errors[0]).toMatchObject({ code: "PROCESS_MANAGER_FAILED", cause: { message: "13 is a bug" } });
        await store.close();
      }
      const { store, send, got } = await opened(summing({}, true), storage);
      await send(4);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
      expect(await got()).toEqual([1, 3, 6, 10]);
      await store.close();
    },
  );

  test("is skipped in a state that cannot be copied", async () => {
    const Odd = processManager("odd", {
      dispatches: [Target],
      initial: () => ({ sum: 0, add: (n: number) => n }),
      onError: { reaction: "skip" },
    }).on(Source, {
      Sent: (state, { data: { n } }) => {
        state.sum += state.add(n);
        if (n === 13) throw new RangeError("13 is a bug");
        return { state, dispatch: Target.at("t").Get({ n: state.sum }) };
      },
    });
    const { store, send, got } = await opened(Odd as never);
    for (const n of [1, 13, 2]) await send(n);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await got()).toEqual([1, 3]);
    await store.close();
  });
});

test("a policy that cannot be meant is refused where it is defined", () => {
  const bad: readonly SenderOptions[] = [
    { onError: { command: "ignore" as never } },
    { onError: { reaction: "dead-letter" as never } },
    { onError: { command: { retry: { attempts: 0 } } } },
    { onError: { command: { retry: { attempts: 2, backoff: "1 fortnight" as never } } } },
    { onError: { command: { retry: { attempts: 2 }, otherwise: "retry" as never } } },
    { order: "all" as never },
  ];
  for (const options of bad)
    expect(() => sender(options)).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }) as Error);
});

test("a store that closes ends the wait for the next attempt", async () => {
  const store = await AggregateStore.builder(memory())
    .aggregate(Source)
    .aggregate(Target)
    .processManager(sender({ onError: { command: { retry: { attempts: 2, backoff: "1h" } } } }))
    .processManagerMode("manual")
    .open();
  await store.dispatch(Target.at("t").Limit({ to: 5 }));
  await store.dispatch(Source.at("s").Send({ n: 1 }));
  const run = store.runProcessManagers();
  await new Promise((resolve) => setTimeout(resolve, 50));
  await Promise.all([expect(run).rejects.toMatchObject({ code: "STORE_CLOSED" }), store.close()]);
});
