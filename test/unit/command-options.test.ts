import { aggregate, AggregateStore, data, type EventStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit, Close } = Account.commands;

describe.each(backends)("a command with an expected version $backend", ({ builder }) => {
  test("is carried out at that version and fails at once at any other", async () => {
    await using store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    expect((await ada.execute(Open({ owner: "Ada" }), { expectedVersion: 0 })).version).toBe(1);
    for (const expectedVersion of [0, 2])
      await expect(ada.execute(Deposit({ amount: 1 }), { expectedVersion })).rejects.toMatchObject({
        code: "CONFLICT",
        expectedVersion,
        actualVersion: 1,
      });
    await expect(ada.try(Deposit({ amount: 1 }), { expectedVersion: 9 })).rejects.toMatchObject({ code: "CONFLICT" });
    await expect(store.dispatch(Account.at("ada").Close(), { expectedVersion: 9 })).rejects.toMatchObject({
      code: "CONFLICT",
    });
    expect(await store.head()).toBe(1);
    await store.dispatch(Account.at("ada").Deposit({ amount: 1 }), { expectedVersion: 1 });
    await ada.execute(Close(), { expectedVersion: 2, actor: "u" });
    expect(await collect(ada.events({ from: 3 }))).toMatchObject([{ type: "Closed", actor: "u" }]);
  });

  test("counts on the commands before it, also while their events are being written", async () => {
    await using store = await builder().aggregate(Counter).open();
    const counter = store.get(Counter, "a");
    const all = [0, 1, 1, 2].map((expectedVersion) =>
      counter.execute({ type: "Add", data: { by: 1 } }, { expectedVersion }).then(
        ({ version }) => version,
        (error: unknown) => (error as { code: string }).code,
      ),
    );
    expect(await Promise.all(all)).toEqual([1, 2, "CONFLICT", 3]);
  });

  test("gets its first result again under its idempotency key", async () => {
    await using store = await builder().aggregate(Counter).open();
    const options = { expectedVersion: 0, idempotencyKey: "k" };
    const first = await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } }, options);
    expect(await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } }, options)).toEqual(first);
  });

  test("takes no version, time or signal that is none", async () => {
    await using store = await builder().aggregate(Counter).open();
    const counter = store.get(Counter, "a");
    for (const options of [{ expectedVersion: -1 }, { expectedVersion: 0.5 }, { timeout: -1 }, { timeout: NaN }])
      await expect(counter.execute(Counter.commands.Clear(), options)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    expect(await store.head()).toBe(0);
  });

  test("has it in its options: in an envelope, where it would have no effect, it is refused", async () => {
    await using store = await builder().aggregate(Counter).open();
    const envelope = Counter.at("a").Add({ by: 1 });
    for (const wrong of [
      { ...envelope, expectedVersion: 7 },
      { ...envelope, context: { expectedVersion: 7 } },
      { ...envelope, context: { timeout: "1s" } },
      { ...envelope, context: { idempotencyKey: "k", remember: "all" } },
      { ...envelope, context: { signal: AbortSignal.abort() } },
    ]) {
      await expect(store.dispatch(wrong)).rejects.toMatchObject({ code: "INVALID_COMMAND" });
      await expect(store.dispatchAll([wrong])).rejects.toMatchObject({ code: "INVALID_COMMAND" });
      await expect(store.schedule(wrong, { in: "1d" })).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    }
    expect(await store.head()).toBe(0);
    expect(await store.schedules()).toEqual([]);
  });

  test("does not show the condition to middleware, whose envelope cannot change it", async () => {
    const seen: unknown[] = [];
    await using store = await builder()
      .aggregate(Counter)
      .use((envelope, next) => {
        seen.push(envelope.context);
        return next(envelope);
      })
      .open();
    const options = { expectedVersion: 0, timeout: 10_000, signal: new AbortController().signal, actor: "u" };
    await store.dispatch(Counter.at("a").Add({ by: 1 }), options);
    await store.get(Counter, "b").execute(Counter.commands.Add({ by: 1 }), options);
    expect(seen).toEqual([{ actor: "u" }, { actor: "u" }]);
  });
});

test("of many commands that expect one version, from two stores of a directory, one is carried out", async () => {
  const directory = temporaryDirectory();
  const stores = [await AggregateStore.open(directory), await AggregateStore.open(directory)] as const;
  const run = async (store: (typeof stores)[number]): Promise<string> => {
    try {
      await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }), { expectedVersion: 0 });
      return "done";
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const outcomes = await Promise.all(Array.from({ length: 20 }, (_, i) => run(stores[i % 2 === 0 ? 0 : 1])));
  expect(outcomes.filter((outcome) => outcome === "done")).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "CONFLICT")).toHaveLength(19);
  for (const store of stores) await store.close();
});

/** A store whose commits wait until they are let go. */
async function heldStore() {
  const memory = new MemoryEventStore();
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  let reads: Promise<void> = Promise.resolve();
  const events = new Proxy<EventStore>(memory, {
    get(target, property) {
      if (property === "commit")
        return async (...args: Parameters<EventStore["commit"]>) => held.then(() => target.commit(...args));
      if (property === "readStream")
        return async function* (...args: Parameters<EventStore["readStream"]>) {
          await reads;
          yield* target.readStream(...args);
        };
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
  const store = await AggregateStore.open({ name: "a held store", open: async () => events });
  return { store, letGo, holdReads: () => void (reads = held) };
}

describe("a command whose caller stops waiting", () => {
  const add = Counter.commands.Add({ by: 1 });

  test("never takes effect while its instance loads", async () => {
    const { store, letGo, holdReads } = await heldStore();
    holdReads();
    const counter = store.get(Counter, "a");
    const controller = new AbortController();
    const aborted = counter.execute(add, { signal: controller.signal });
    const late = counter.execute(add, { timeout: 1 });
    const dispatched = store.dispatch(Counter.at("a").Add({ by: 1 }), { timeout: "1ms" });
    const patient = counter.execute(add, { timeout: "1h", signal: new AbortController().signal });
    const reason = new Error("the user left");
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await expect(late).rejects.toMatchObject({ code: "TIMEOUT" });
    await expect(dispatched).rejects.toMatchObject({ code: "TIMEOUT" });
    letGo();
    expect((await patient).version).toBe(1);
    expect(await store.head()).toBe(1);
    await store.close();
  });

  test("has an unknown outcome while its events are being written", async () => {
    const { store, letGo } = await heldStore();
    const counter = store.get(Counter, "a");
    expect(await counter.state()).toBe(0);
    const reason = new Error("the user left");
    const controller = new AbortController();
    const aborted = counter.execute(add, { signal: controller.signal });
    const late = counter.execute(add, { timeout: 1 });
    controller.abort(reason);
    await expect(aborted).rejects.toMatchObject({ code: "COMMIT_UNKNOWN", cause: reason });
    await expect(late).rejects.toMatchObject({ code: "COMMIT_UNKNOWN", cause: { code: "TIMEOUT" } });
    letGo();
    expect((await counter.execute(add)).version).toBe(3);
    await store.close();
  });

  test("fails at once if its signal is aborted already", async () => {
    await using store = await AggregateStore.open(temporaryDirectory());
    const signal = AbortSignal.abort();
    const counter = store.get(Counter, "a");
    await expect(counter.execute(add, { signal })).rejects.toMatchObject({ name: "AbortError" });
    await expect(store.dispatch(Counter.at("a").Add({ by: 1 }), { signal })).rejects.toMatchObject({
      name: "AbortError",
    });
    expect(await store.head()).toBe(0);
  });

  test("does not wait for a schema that never answers, and did not say so when it was declared", async () => {
    const validate = (value: unknown) => (value === 1 ? new Promise<never>(() => {}) : { value });
    const never = { "~standard": { version: 1, vendor: "test", validate } } as const;
    const Slow = aggregate("slow", { initial: 0, events: { Done: data() }, commands: { Do: never } }).define({
      handle: { Do: ({ emit }) => emit.Done() },
      apply: { Done: (n) => n },
    });
    const store = await AggregateStore.open(temporaryDirectory());
    const slow = store.get(Slow, "a");
    await expect(slow.execute({ type: "Do", data: 1 as never })).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
    expect((await slow.execute({ type: "Do", data: 2 as never })).version).toBe(1);
    await store.close();
  });
});
