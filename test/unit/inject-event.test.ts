import { aggregate, AggregateStore, data, memory, type RecordedEvent, type StandardSchema } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { Relay, Sink, taken } from "../support/relay.ts";
import { linesOf, oneTo, streamFile } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const added = (by: number, eventId?: string) => ({
  type: "Added" as const,
  data: { by },
  ...(eventId === undefined ? {} : { eventId }),
});

describe.each(backends)("an injected event $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).open();

  test("is appended unchanged, with its own time, id and context", async () => {
    await using store = await open();
    const event = {
      ...added(5, "e-1"),
      timestamp: 1_700_000_000_123,
      actor: "phone",
      correlationId: "c",
      causationId: "cause",
      sourceDevice: "d-1",
      metadata: { zone: "eu" },
    };
    expect(await store.injectEvent(Counter, "a", event)).toEqual({ injected: true, version: 1, position: 1 });
    expect(await collect(store.readEvents("counter", "a"))).toEqual([
      { ...event, aggregate: "counter", id: "a", version: 1, position: 1 },
    ]);
    expect(await store.get(Counter, "a").state()).toBe(5);
  });

  test("gets the missing fields, and is seen by a handle, a projection's reader and the next command", async () => {
    await using store = await open();
    const a = store.get(Counter, "a");
    await a.execute({ type: "Add", data: { by: 1 } });
    await store.injectEvent(Counter, "a", added(10));
    expect(await a.state()).toBe(11);
    expect(await a.execute({ type: "Add", data: { by: 100 } })).toMatchObject({ state: 111, version: 3, position: 3 });
    const [, event] = await collect(a.events());
    expect(event?.eventId).toMatch(/./);
    expect(Math.abs((event?.timestamp ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  test("may be a recorded event of another store", async () => {
    await using phone = await open();
    await using desk = await open();
    await phone.get(Counter, "a").execute({ type: "Add", data: { by: 1 } }, { actor: "u", correlationId: "r" });
    await phone.get(Counter, "a").execute({ type: "Clear" });
    await desk.get(Counter, "other").execute({ type: "Clear" });
    for (const _ of oneTo(2)) {
      for await (const event of phone.get(Counter, "a").events()) await desk.injectEvent(Counter, "a", event);
    }
    const [mine, theirs] = await Promise.all([phone, desk].map((store) => collect(store.readEvents("counter", "a"))));
    const without = (events: RecordedEvent[] = []) => events.map((event) => ({ ...event, position: 0 }));
    expect(without(theirs)).toEqual(without(mine));
  });

  test("that the instance already has is dropped: injected or executed, one after the other or at once", async () => {
    await using store = await open();
    expect(await store.injectEvent(Counter, "a", added(1, "x"))).toMatchObject({ injected: true });
    expect(await store.injectEvent(Counter, "a", added(99, "x"))).toEqual({ injected: false, version: 1, position: 1 });
    const { events } = await store.dispatch(Counter.at("a").Add({ by: 2 }));
    expect(await store.injectEvent(Counter, "a", added(99, events[0]?.eventId))).toMatchObject({ injected: false });
    const results = await Promise.all(oneTo(20).map((i) => store.injectEvent(Counter, "a", added(10, `y-${i % 4}`))));
    expect(results.filter(({ injected }) => injected)).toHaveLength(4);
    expect(await store.get(Counter, "a").state()).toBe(43);
  });

  test("is new for another instance, although the id is the same, and always new without an id", async () => {
    await using store = await open();
    for (const id of ["a", "b"]) {
      expect(await store.injectEvent(Counter, id, added(1, "x"))).toMatchObject({ injected: true });
    }
    for (const _ of oneTo(2)) expect(await store.injectEvent(Counter, "a", added(1))).toMatchObject({ injected: true });
    expect(await store.get(Counter, "a").state()).toBe(3);
  });

  const bad: [string, unknown][] = [
    ["nothing", undefined],
    ["no type", { data: { by: 1 } }],
    ["an empty type", { type: "" }],
    ["half a surrogate pair in its type", { type: "\ud800" }],
    ["an empty id", { ...added(1), eventId: "" }],
    ["half a surrogate pair in its id", { ...added(1), eventId: "x\udc00" }],
    ["a number for an id", { ...added(1), eventId: 5 }],
    ["a time before 1970", { ...added(1), timestamp: -1 }],
    ["a time that is no number", { ...added(1), timestamp: "now" }],
    ["a payload that is not JSON", { type: "Added", data: { by: 1n } }],
    ["metadata of the store's own", { ...added(1), metadata: { dispatch: {} } }],
    ["metadata that is not JSON", { ...added(1), metadata: { at: new Date() } }],
  ];
  test.each(bad)("with %s is refused, and nothing is written", async (_, event) => {
    await using store = await open();
    await expect(store.injectEvent(Counter, "a", event as ReturnType<typeof added>)).rejects.toMatchObject({
      code: expect.stringMatching(/^INVALID_(ARGUMENT|PAYLOAD|CONTEXT)$/),
    });
    expect(await store.listStreams()).toEqual([]);
    expect(await store.injectEvent(Counter, "a", added(1))).toMatchObject({ injected: true, version: 1 });
  });
});

describe("the ids of events", () => {
  test("are known after a restart, by all stores on the directory, also when they inject at once", async () => {
    const directory = temporaryDirectory();
    const open = () => AggregateStore.builder(directory).aggregate(Counter).open();
    const first = await open();
    await first.injectEvent(Counter, "a", added(1, "x"));
    const { events } = await first.dispatch(Counter.at("a").Add({ by: 2 }));
    await first.close();
    await using one = await open();
    await using two = await open();
    for (const store of [one, two]) {
      expect(await store.injectEvent(Counter, "a", added(99, "x"))).toMatchObject({ injected: false });
      expect(await store.injectEvent(Counter, "a", added(99, events[0]?.eventId))).toMatchObject({ injected: false });
    }
    const results = await Promise.all(
      oneTo(30).map((i) => (i % 2 === 0 ? one : two).injectEvent(Counter, "a", added(10, `y-${Math.ceil(i / 2)}`))),
    );
    expect(results.filter(({ injected }) => injected)).toHaveLength(15);
    expect(await one.get(Counter, "a").state()).toBe(153);
    expect(linesOf(streamFile(directory, "counter", "a"))).toHaveLength(17);
  });
});

describe("process managers after an injection", () => {
  const open = (mode: "manual" | "automatic" = "manual") =>
    AggregateStore.builder(memory())
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Relay)
      .processManagerMode(mode)
      .open();

  test("have not run when it resolves, unless an option asks for it", async () => {
    await using store = await open();
    await store.injectEvent(Counter, "a", added(1));
    await store.injectEvent(Counter, "a", added(2), { runProcessManagers: false });
    expect(await taken(store, "a")).toEqual([]);
    await store.injectEvent(Counter, "a", added(3, "x"), { runProcessManagers: true });
    expect(await taken(store, "a")).toEqual([1, 2, 3]);
    await store.dispatch(Counter.at("a").Add({ by: 4 }));
    // The caller repeats an injection whose outcome it does not know.
    expect(await store.injectEvent(Counter, "a", added(3, "x"), { runProcessManagers: true })).toMatchObject({
      injected: false,
    });
    expect(await taken(store, "a")).toEqual([1, 2, 3, 4]);
  });

  test("have run when it resolves, also if they run automatically", async () => {
    await using store = await open("automatic");
    for (const n of oneTo(10)) {
      await store.injectEvent(Counter, "a", added(n), { runProcessManagers: true });
      expect(await taken(store, "a")).toEqual(oneTo(n));
    }
  });
});

describe("an injected event is checked like one that is decided", () => {
  const positive: StandardSchema<{ by: number }> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) =>
        typeof value === "object" && value !== null && "by" in value && typeof value.by === "number" && value.by > 0
          ? { value: { by: value.by } }
          : { issues: [{ message: "expected a positive number" }] },
    },
  };
  const Checked = aggregate("checked", {
    initial: { sum: 0 },
    events: { Added: positive, Cleared: data() },
    commands: {},
  }).define({ handle: {}, apply: { Added: ({ sum }, { by }) => ({ sum: sum + by }), Cleared: () => ({ sum: 0 }) } });

  test("against its schema, and against the declared types", async () => {
    await using store = await AggregateStore.builder(memory()).aggregate(Checked).open();
    const inject = (event: unknown) => store.injectEvent(Checked, "a", event as never);
    await expect(inject({ type: "Added", data: { by: -1 } })).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
    await expect(inject({ type: "Added" })).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
    await expect(inject({ type: "Removed", data: { by: 1 } })).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
    await expect(inject({ type: "__proto__" })).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
    await expect(inject({ type: "constructor" })).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
    await expect(inject({ type: "Added", data: { by: NaN } })).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
    expect(await store.listStreams()).toEqual([]);
    await inject({ type: "Added", data: { by: 2, more: true } });
    await inject({ type: "Added", data: { by: 3 } });
    expect(await store.get(Checked, "a").state()).toEqual({ sum: 5 });
  });
});
