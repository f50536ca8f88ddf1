import { channel } from "node:diagnostics_channel";
import {
  aggregate,
  AggregateStore,
  data,
  isEventfoldError,
  memory,
  processManager,
  projection,
  type RecordedEvent,
  renamed,
  type UnknownEventPolicy,
} from "eventfold-es";
import { describe, expect, test } from "vitest";
import { readdirSync } from "node:fs";
import { backends } from "../support/backends.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const commands = { Do: data<string[]>() };
const order = (...names: string[]) =>
  aggregate("order", {
    initial: [] as string[],
    events: Object.fromEntries(names.map((name) => [name, data()])),
    commands,
  }).define({
    handle: { Do: ({ data }) => data.map((type) => ({ type })) as never },
    apply: Object.fromEntries(names.map((name) => [name, (log: string[]) => [...log, name]])),
  });
const Before = order("Placed", "Sent");
const After = order("Placed", "Shipped");
const Renamed = aggregate("order", { ...After.contract, history: [renamed("Sent", "Shipped")] as never }).define(
  After.behaviour,
);
const Other = aggregate("other", { initial: 0, events: { Done: data() }, commands: { Do: data() } }).define({
  handle: { Do: ({ emit }) => emit.Done() },
  apply: { Done: (n) => n + 1 },
});
const counting = (on: typeof After, name = "count") =>
  projection(name, { placed: 0 }).on(on, { Placed: (s: { placed: number }) => ({ placed: s.placed + 1 }) } as never);
const Count = counting(After);
const Others = projection("others", { done: 0 }).on(Other, { Done: (s) => ({ done: s.done + 1 }) });
const React = processManager("react", { dispatches: [Other] }).on(After, {
  Placed: () => Other.at("o").Do(),
} as never);

async function errorOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => "nothing was thrown",
    (thrown: unknown) => thrown,
  );
  if (isEventfoldError(error, "UNKNOWN_EVENT")) return error.message;
  throw error;
}

const MESSAGE =
  'expected only events that the contracts declare, found 2 events "Sent" of order, the first at position 2 (order "o-1", version 2). Declare the type, or say in the contract\'s history what became of it: renamed("Sent", "<new name>"), dropped("Sent") or replaced("Sent", …). To pass over such events, open the store with onUnknownEvent("skip")';

describe.each(backends)("a renamed event without a history $backend", ({ builder }) => {
  async function begun() {
    const begin = builder();
    await using before = await begin.aggregate(Before).aggregate(Other).open();
    await before.dispatch(Before.at("o-1").Do(["Placed", "Sent"]));
    await before.dispatch(Before.at("o-2").Do(["Sent", "Placed"]));
    await before.dispatch(Other.at("o").Do());
    return begin;
  }
  const open = (begin: ReturnType<typeof builder>, policy?: UnknownEventPolicy) => {
    const configured = begin.aggregate(After).aggregate(Other).projection(Count).projection(Others);
    return (policy === undefined ? configured : configured.onUnknownEvent(policy))
      .processManager(React)
      .processManagerMode("manual")
      .open();
  };

  test("fails every reader that needs the aggregate's events, and no other", async () => {
    await using store = await open(await begun());
    for (let round = 0; round < 2; round++) {
      const handle = store.get(After, "o-1");
      expect(await errorOf(handle.state())).toBe(MESSAGE);
      expect(await errorOf(handle.state({ version: 2 }))).toBe(MESSAGE);
      expect(await errorOf(handle.execute(After.commands.Do(["Placed"])))).toBe(MESSAGE);
      expect(await errorOf(store.projection(Count))).toBe(MESSAGE);
      expect(await errorOf(store.rebuildProjection(Count))).toBe(MESSAGE);
      expect(await errorOf(store.runProcessManagers())).toBe(MESSAGE);
      expect(await store.projection(Others)).toEqual({ done: 1 });
    }
    expect((await store.status()).unknownEvents).toEqual([{ aggregate: "order", type: "Sent", count: 2, position: 2 }]);
    expect(await store.get(Other, "o").state()).toBe(1);
    expect((await store.get(After, "new").execute(After.commands.Do(["Shipped"]))).version).toBe(1);
  });

  test("is passed over with the policy skip, and counted", async () => {
    const begin = await begun();
    const notices: unknown[] = [];
    const listen = (message: unknown): void => void notices.push(message);
    channel("eventfold-es:unknown-events").subscribe(listen);
    try {
      await using store = await open(begin, "skip");
      expect(await store.get(After, "o-1").state()).toEqual(["Placed"]);
      expect(await store.projection(Count)).toEqual({ placed: 2 });
      expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
      expect((await store.status()).unknownEvents).toMatchObject([{ type: "Sent", count: 2, position: 2 }]);
      expect(notices).toEqual([
        { aggregate: "order", id: "o-1", event: "Sent", count: 1, position: 2, skipped: true },
        { aggregate: "order", id: undefined, event: "Sent", count: 2, position: 2, skipped: true },
      ]);
    } finally {
      channel("eventfold-es:unknown-events").unsubscribe(listen);
    }
  });

  test("is decided about by a function, for every reader", async () => {
    const seen: string[] = [];
    const policy = ({ type, id, version }: RecordedEvent): "skip" | "error" => {
      seen.push(`${type} ${id} ${version}`);
      return id === "o-2" ? "error" : "skip";
    };
    await using store = await open(await begun(), policy);
    expect(await store.get(After, "o-1").state()).toEqual(["Placed"]);
    const refused = MESSAGE;
    expect(await errorOf(store.get(After, "o-2").state())).toBe(refused);
    expect(await errorOf(store.projection(Count))).toBe(refused);
    expect(await errorOf(store.runProcessManagers())).toBe(refused);
    expect(seen).toContain("Sent o-2 1");
  });

  test("is read everywhere once the history names it, also by a projection that existed before", async () => {
    const begin = await begun();
    const Both = projection("count", { placed: 0 }).on(Before, {
      Placed: (s: { placed: number }) => ({ placed: s.placed + 1 }),
      Sent: (s: { placed: number }) => ({ placed: s.placed + 10 }),
    } as never);
    const old = await begin.aggregate(Before).projection(Both).open();
    expect(await old.projection(Both)).toEqual({ placed: 22 });
    await old.close();
    const New = projection("count", { placed: 0 }).on(Renamed, {
      Placed: (s: { placed: number }) => ({ placed: s.placed + 1 }),
      Shipped: (s: { placed: number }) => ({ placed: s.placed + 10 }),
    } as never);
    await using store = await begin.aggregate(Renamed).projection(New).open();
    expect(await store.get(Renamed, "o-1").state()).toEqual(["Placed", "Shipped"]);
    expect(await store.projection(New)).toEqual({ placed: 22 });
    expect((await store.status()).unknownEvents).toEqual([]);
  });

  test("is noticed when another process of older code writes it later", async () => {
    const begin = builder();
    await using store = await open(begin);
    await using older = await begin.aggregate(Before).open();
    await store.dispatch(After.at("o-1").Do(["Placed"]));
    expect(await store.projection(Count)).toEqual({ placed: 1 });
    await older.dispatch(Before.at("o-1").Do(["Sent"]));
    expect(await errorOf(store.projection(Count))).toContain('1 event "Sent" of order, the first at position 2');
  });

  test("events of a projection's aggregate that it has no handler for are no unknown events", async () => {
    await using store = await builder()
      .aggregate(Before)
      .projection(counting(Before as never))
      .open();
    await store.dispatch(Before.at("o-1").Do(["Placed", "Sent"]));
    expect(await store.projection(counting(Before as never, "else") as never)).toEqual({ placed: 1 });
  });

  test("of an aggregate that is not registered does not count", async () => {
    const begin = await begun();
    await using store = await begin.aggregate(Other).projection(Others).open();
    expect(await store.projection(Others)).toEqual({ done: 1 });
    expect((await store.status()).unknownEvents).toEqual([]);
  });
});

describe("what was found is kept", () => {
  const filled = async (directory: string): Promise<void> => {
    await using store = await AggregateStore.builder(directory)
      .aggregate(Before)
      .projection(counting(Before as never))
      .open();
    for (let i = 0; i < 12; i++)
      await store.dispatch(Before.at(`o-${i}`).Do(Array.from({ length: 100 }, () => (i === 0 ? "Sent" : "Placed"))));
    await store.projection(counting(Before as never) as never).catch(() => {});
  };

  test("and holds for code that declares more, and not for code that declares less", async () => {
    const directory = temporaryDirectory();
    await filled(directory);
    const [Less, More] = [order("Placed"), order("Placed", "Sent", "Viewed")];
    const unknown = async (model: typeof After): Promise<unknown> => {
      await using store = await AggregateStore.builder(directory).aggregate(model).open();
      return (await store.status()).unknownEvents;
    };
    const sent = [{ aggregate: "order", type: "Sent", count: 100, position: 1 }];
    expect(await unknown(Less)).toEqual(sent);
    expect(readdirSync(`${directory}/meta`)).toContain("declared");
    expect(await unknown(Less)).toEqual(sent);
    expect(await unknown(More)).toEqual([]);
    expect(await unknown(More)).toEqual([]);
    expect(await unknown(Less)).toEqual(sent);
  });
});

test("an aggregate that is registered later is looked at, too", async () => {
  const storage = memory();
  await using before = await AggregateStore.builder(storage).aggregate(Before).aggregate(Other).open();
  await before.dispatch(Before.at("o-1").Do(["Sent"]));
  await using store = await AggregateStore.open(storage);
  expect((await store.status()).unknownEvents).toEqual([]);
  store.get(After, "o-1");
  expect((await store.status()).unknownEvents).toMatchObject([{ type: "Sent", count: 1 }]);
});
