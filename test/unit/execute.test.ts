import { aggregate, AggregateStore, CommandRejectedError, data, isEventfoldError, memory } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { InterceptedFileSystem } from "../support/intercepted-file-system.ts";
import { holes, oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit, Withdraw, Split, Close, Crash } = Account.commands;

describe.each(backends)("commands $backend", ({ builder }) => {
  function open() {
    return builder().aggregate(Account).open();
  }

  test("a command keeps the context that it was given", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    const metadata = { from: { app: "web" } };
    const context = { actor: "ada", correlationId: "r-1", metadata };
    const change = (): void => {
      Object.assign(context, { actor: "eve", correlationId: 1 });
      metadata.from.app = "changed";
    };
    const expected = { actor: "ada", correlationId: "r-1", metadata: { from: { app: "web" } } };
    // The instance is loading: the command waits.
    const opening = ada.execute(Open({ owner: "Ada" }), context);
    change();
    expect((await opening).events[0]).toMatchObject(expected);
    expect((await collect(ada.events()))[0]).toMatchObject(expected);
  });

  test("execute returns events, state, version and position", async () => {
    let time = 1000;
    let id = 0;
    await using store = await builder()
      .aggregate(Account)
      .clock(() => new Date((time += 1)))
      .ids(() => `id-${++id}`)
      .open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    await store.get(Account, "bob").execute(Open({ owner: "Bob" }));
    const result = await ada.execute(Split({ amounts: [2, 3] }));
    const record = { aggregate: "account", id: "ada", timestamp: 1003, metadata: {} };
    expect(result).toEqual({
      events: [
        { type: "Deposited", data: { amount: 2 }, ...record, eventId: "id-3", version: 2, position: 3 },
        { type: "Deposited", data: { amount: 3 }, ...record, eventId: "id-4", version: 3, position: 4 },
      ],
      state: { open: true, balance: 5 },
      version: 3,
      position: 4,
    });
    expect(await collect(ada.events({ from: 2 }))).toEqual(result.events);
  });

  test("execute throws a rejection, try returns it, and neither writes anything", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    const error: unknown = await ada.execute(Deposit({ amount: 1 })).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CommandRejectedError);
    expect(isEventfoldError(error, "COMMAND_REJECTED")).toBe(true);
    expect(error).toMatchObject({ rejection: { type: "NotOpen" } });
    await ada.execute(Open({ owner: "Ada" }));
    const rejection = { type: "InsufficientFunds", data: { balance: 0, needed: 7 } };
    expect(await ada.try(Withdraw({ amount: 7 }))).toEqual({ ok: false, rejection });
    expect(await ada.try(Deposit({ amount: 7 }))).toMatchObject({ ok: true, version: 2, state: { balance: 7 } });
    expect(await collect(ada.events())).toHaveLength(2);
  });

  test("a rejected first command creates no instance", async () => {
    await using store = await open();
    await store.get(Account, "ada").try(Deposit({ amount: 1 }));
    await store.get(Account, "ada").state();
    expect(await store.list(Account)).toEqual([]);
  });

  test("a command without events writes nothing", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    expect(await ada.execute(Close())).toEqual({
      events: [],
      state: { open: false, balance: 0 },
      version: 0,
      position: 0,
    });
    await ada.execute(Open({ owner: "Ada" }));
    for (const command of [Open({ owner: "Bob" }), Split({ amounts: [] })])
      expect(await ada.execute(command)).toMatchObject({ events: [], version: 1, position: 1 });
    expect(await collect(ada.events())).toHaveLength(1);
  });

  test("a bug in handle fails its command with that error, and no other command", async () => {
    const bug = new RangeError("boom");
    const Buggy = aggregate("buggy", {
      initial: 0,
      events: { Done: data() },
      commands: { Do: data<boolean>() },
    }).define({
      handle: {
        Do: ({ data: sound, emit }) => {
          if (!sound) throw bug;
          return emit.Done();
        },
      },
      apply: { Done: (n) => n + 1 },
    });
    await using store = await builder().aggregate(Buggy).aggregate(Account).open();
    const buggy = store.get(Buggy, "b");
    const outcomes = await Promise.allSettled(
      [true, false, true].map((sound) => buggy.execute({ type: "Do", data: sound })),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(outcomes[1]).toHaveProperty("reason", bug);
    await expect(buggy.try({ type: "Do", data: false })).rejects.toBe(bug);
    await expect(store.dispatch(Account.at("a").Crash())).rejects.toThrow(new TypeError("a bug in handle"));
    expect(await buggy.state()).toBe(2);
    expect(await collect(buggy.events())).toHaveLength(2);
    expect(await store.list(Account)).toEqual([]);
  });

  test("a bug in apply fails its command and writes nothing", async () => {
    const Fragile = aggregate("fragile", {
      initial: 0,
      events: { Hit: data<number>() },
      commands: { Hit: data<number>() },
    }).define({
      handle: { Hit: ({ data: n, emit }) => [emit.Hit(1), emit.Hit(n)] },
      apply: {
        Hit: (sum, n) => {
          if (n < 0) throw new RangeError("broken");
          return sum + n;
        },
      },
    });
    await using store = await builder().aggregate(Fragile).open();
    const fragile = store.get(Fragile, "f");
    await expect(fragile.execute({ type: "Hit", data: -1 })).rejects.toThrow(new RangeError("broken"));
    expect(await fragile.execute({ type: "Hit", data: 2 })).toMatchObject({ version: 2, state: 3 });
    expect(await collect(fragile.events())).toHaveLength(2);
  });

  test("handle receives id, version, context and time", async () => {
    const seen: unknown[] = [];
    const Curious = aggregate("curious", { initial: {}, events: { Asked: data() }, commands: { Ask: data() } }).define({
      handle: {
        Ask: ({ id, version, context, now, emit }) => {
          seen.push({ id, version, context, now });
          return emit.Asked();
        },
      },
      apply: { Asked: (s) => s },
    });
    await using store = await builder()
      .aggregate(Curious)
      .clock(() => 5000)
      .open();
    const curious = store.get(Curious, "c");
    await curious.execute({ type: "Ask" });
    await curious.execute({ type: "Ask" }, { actor: "u" });
    expect(seen).toEqual([
      { id: "c", version: 0, context: {}, now: new Date(5000) },
      { id: "c", version: 1, context: { actor: "u" }, now: new Date(5000) },
    ]);
  });

  test.each<[string, unknown]>([
    ["nothing", undefined],
    ["a text", "5000"],
    ["a bigint", 5000n],
    ["a promise", Promise.resolve(5000)],
    ["no number", Number.NaN],
    ["a date that is none", new Date(Number.NaN)],
  ])("a clock that gives %s is refused with each command, and nothing is written", async (_, time) => {
    await using store = await builder()
      .aggregate(Account)
      .clock(() => time as number)
      .open();
    await expect(store.get(Account, "a").execute(Open({ owner: "a" }))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("the clock gave") as string,
    });
    expect(await store.head()).toBe(0);
  });

  test("commands of one instance are decided in their order, independent of other instances", async () => {
    await using store = await open();
    const handles = ["a", "b", "c"].map((id) => store.get(Account, id));
    const opened = handles.map((handle) => handle.execute(Open({ owner: handle.id })));
    const results = await Promise.all(
      oneTo(300).map(async (n) =>
        handles[n % 3]?.execute(n % 2 === 0 ? Deposit({ amount: n }) : Split({ amounts: [n, 0] })),
      ),
    );
    await Promise.all(opened);
    const positions: number[] = [];
    for (const [i, handle] of handles.entries()) {
      const events = await collect(handle.events());
      const amounts = events.flatMap((event) =>
        event.type === "Deposited" && event.data.amount > 0 ? [event.data.amount] : [],
      );
      expect(amounts).toEqual(oneTo(300).filter((n) => n % 3 === i));
      expect(events.findIndex(({ version }, at) => version !== at + 1)).toBe(-1);
      positions.push(...events.map(({ position }) => position));
    }
    expect(holes(positions, 453)).toBeUndefined();
    for (const result of results) expect(result?.events.at(-1)?.version).toBe(result?.version);
  });

  test("states are frozen deeply", async () => {
    interface State {
      readonly items: readonly { readonly name: string }[];
    }
    const Basket = aggregate("basket", {
      initial: { items: [] } as State,
      events: { Put: data<{ name: string }>() },
      commands: { Put: data<{ name: string }>() },
    }).define({
      handle: {
        Put: ({ state, data: item, emit }) => {
          expect(Object.isFrozen(state) && Object.isFrozen(state.items)).toBe(true);
          return emit.Put(item);
        },
      },
      apply: { Put: (s, item) => ({ items: [...s.items, item] }) },
    });
    await using store = await builder().aggregate(Basket).open();
    const basket = store.get(Basket, "b");
    const { state } = await basket.execute({ type: "Put", data: { name: "x" } });
    for (const given of [
      state,
      await basket.state(),
      await basket.state({ version: 1 }),
      await basket.state({ version: 0 }),
    ])
      expect([given, given.items, ...given.items].every(Object.isFrozen)).toBe(true);
    expect(() => (state.items as { name: string }[]).push({ name: "y" })).toThrow(TypeError);
  });

  test("changing the caller's objects after the call changes nothing", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    const metadata = { tags: ["a"] };
    const opening = Open({ owner: "Ada" }) as { data: { owner: string } } & ReturnType<typeof Open>;
    const execution = ada.execute(opening, { metadata });
    opening.data.owner = "Eve";
    const [event] = (await execution).events;
    expect(event?.data).toEqual({ owner: "Ada" });
    const [stored] = await collect(ada.events());
    expect(stored?.data).toEqual({ owner: "Ada" });
  });

  test("events have the fields of their command's context", async () => {
    await using store = await open();
    const context = {
      actor: 'Zoë "42"',
      correlationId: "req-1",
      causationId: "evt-1",
      sourceDevice: "phone-é",
      metadata: { attempt: 1, nested: { a: true, b: [1, 2.5, null] }, zone: "eu" },
    };
    const ada = store.get(Account, "ada");
    const { events } = await ada.execute(Open({ owner: "Ada" }), { ...context, idempotencyKey: "k" });
    expect(events[0]).toMatchObject(context);
    expect(events[0]).not.toHaveProperty("idempotencyKey");
    expect(await collect(ada.events())).toEqual(events);
    await ada.execute(Close());
    const [, closed] = await collect(ada.events());
    for (const field of ["actor", "correlationId", "causationId", "sourceDevice"])
      expect(closed).not.toHaveProperty(field);
    expect(closed?.metadata).toEqual({});
    expect(closed).not.toHaveProperty("data");
  });

  test("events are read from a version on, and streams are listed in order", async () => {
    await using store = await open();
    for (const id of ["b", "a", "\u{1f980}", "\uff21", "B"]) await store.get(Account, id).execute(Open({ owner: id }));
    const a = store.get(Account, "a");
    for (const amount of oneTo(5)) await a.execute(Deposit({ amount }));
    const versions = async (events: AsyncIterable<{ version: number }>): Promise<number[]> =>
      (await collect(events)).map(({ version }) => version);
    expect(await versions(a.events())).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await versions(a.events({ from: 5 }))).toEqual([5, 6]);
    expect(await versions(a.events({ from: 7 }))).toEqual([]);
    expect(await versions(store.readEvents("account", "a", { from: 6 }))).toEqual([6]);
    expect(await collect(store.readEvents("account", "ghost"))).toEqual([]);
    expect(await collect(store.readEvents("nothing", "a"))).toEqual([]);
    // By code points: UTF-16 would put the crab first.
    expect(await store.list(Account)).toEqual(["B", "a", "b", "\uff21", "\u{1f980}"]);
    expect((await store.listStreams("account")).map(({ id }) => id)).toEqual(await store.list(Account));
    expect(await store.listStreams()).toHaveLength(5);
    expect(await store.listStreams("other")).toEqual([]);
  });

  test("dispatch executes the command of an envelope; the context of the call wins", async () => {
    await using store = await open();
    const envelope = {
      ...Account.at("ada").Open({ owner: "Ada" }),
      context: { actor: "envelope", correlationId: "c" },
    };
    const result = await store.dispatch(envelope, { actor: "given" });
    expect(result).toMatchObject({ version: 1, state: { open: true } });
    expect(result.events[0]).toMatchObject({ actor: "given", correlationId: "c" });
    await expect(store.dispatch(Account.at("ada").Withdraw({ amount: 1 }))).rejects.toMatchObject({
      rejection: { type: "InsufficientFunds" },
    });
    await expect(store.dispatch(Account.at("ada").Crash())).rejects.toBeInstanceOf(TypeError);
    expect(Crash()).toEqual({ type: "Crash" });
  });
});

describe("a store on disk", () => {
  test("has the same events and states when it is opened again", async () => {
    const directory = temporaryDirectory();
    const store = await AggregateStore.builder(directory).aggregate(Account).open();
    const context = { actor: "u", correlationId: "c", causationId: "d", sourceDevice: "s", metadata: { n: [1] } };
    const { events } = await store.get(Account, "ada").execute(Open({ owner: "Ada" }), context);
    await store.get(Account, "ada").execute(Split({ amounts: [1, 2] }));
    await store.close();
    await using again = await AggregateStore.open(directory);
    expect(await collect(again.readEvents("account", "ada"))).toHaveLength(3);
    const ada = again.get(Account, "ada");
    expect((await collect(ada.events()))[0]).toEqual(events[0]);
    expect(events[0]).toMatchObject(context);
    expect(await ada.state()).toEqual({ open: true, balance: 3 });
    expect(await ada.execute(Deposit({ amount: 4 }))).toMatchObject({ version: 4, position: 4, state: { balance: 7 } });
  });

  test("flushes once for many commands", async () => {
    const disk = await InterceptedFileSystem.create();
    await using store = await AggregateStore.builder(temporaryDirectory())
      .aggregate(Account)
      .fileSystem(disk.fileSystem)
      .open();
    const handles = oneTo(200).map((n) => store.get(Account, `a-${n}`));
    await Promise.all(handles.map((handle) => handle.execute(Open({ owner: "Ada" }))));
    disk.durableWrites = 0;
    await Promise.all(
      handles.map(async (handle) => {
        for (let n = 0; n < 10; n++) await handle.execute(Deposit({ amount: 1 }));
      }),
    );
    expect(disk.durableWrites).toBeGreaterThan(0);
    expect(2000 / disk.durableWrites).toBeGreaterThanOrEqual(20);

    // One instance is not limited to one command per flush either.
    disk.durableWrites = 0;
    await Promise.all(oneTo(200).map(async () => handles[0]?.execute(Deposit({ amount: 1 }))));
    expect(200 / disk.durableWrites).toBeGreaterThanOrEqual(20);
    expect(await handles[0]?.state()).toEqual({ open: true, balance: 210 });
  });
});

test("a command that handle sends to its own instance is decided after the present one", async () => {
  let send: (() => void) | undefined;
  const List = aggregate("list", {
    initial: [] as readonly number[],
    events: { Added: data<{ n: number }>() },
    commands: { Add: data<{ n: number }>() },
  }).define({
    handle: {
      Add: ({ data: added, emit }) => {
        send?.();
        return emit.Added(added);
      },
    },
    apply: { Added: (list, { n }) => [...list, n] },
  });
  await using store = await AggregateStore.builder(memory()).aggregate(List).open();
  const list = store.get(List, "a");
  await list.execute(List.commands.Add({ n: 1 }));
  let second: Promise<unknown> | undefined;
  send = () => {
    send = undefined;
    second = list.execute(List.commands.Add({ n: 3 }));
  };
  expect(await list.execute(List.commands.Add({ n: 2 }))).toMatchObject({ version: 2, state: [1, 2] });
  expect(await second).toMatchObject({ version: 3, state: [1, 2, 3] });
  expect(await list.state()).toEqual(await list.state({ version: 3 }));
});
