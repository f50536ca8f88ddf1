import {
  aggregate,
  AggregateStore,
  CommandBus,
  CommandRejectedError,
  data,
  memory,
  type Middleware,
  type StandardSchema,
} from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { until } from "../support/until.ts";

const Till = aggregate("till", {
  initial: 0,
  events: { Shut: data() },
  commands: { Close: data(), Count: data() },
}).define({
  handle: { Close: ({ emit }) => emit.Shut(), Count: () => {} },
  apply: { Shut: (n) => n + 1 },
});

const openStore = () => AggregateStore.builder(memory()).aggregate(Account).aggregate(Counter).aggregate(Till).open();

describe("dispatch", () => {
  test("routes a command by its type, and an envelope by its address", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Account).register(Counter);
    await bus.dispatch("ada", { type: "Open", data: { owner: "Ada" } }, { correlationId: "r-1" });
    await bus.dispatch("ada", Account.commands.Deposit({ amount: 5 }));
    expect(await bus.dispatch("ada", { type: "Add", data: { by: 3 } })).toMatchObject({ state: 3 });
    expect(await bus.dispatch(Account.at("ada").Withdraw({ amount: 2 }))).toMatchObject({
      state: { balance: 3 },
      version: 3,
    });
    const [first] = await collect(store.readEvents("account", "ada"));
    expect(first).toMatchObject({ type: "Opened", correlationId: "r-1" });
  });

  test("rejects a command that the aggregate rejects, and writes nothing", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Account);
    await expect(bus.dispatch("ada", { type: "Deposit", data: { amount: 1 } })).rejects.toThrow(CommandRejectedError);
    expect(await store.listStreams()).toEqual([]);
  });

  test("merges an envelope's context with the call's, whose fields win", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Counter);
    const envelope = { ...Counter.at("a").Add({ by: 1 }), context: { actor: "envelope", correlationId: "envelope" } };
    const { events } = await bus.dispatch(envelope, { correlationId: "call", actor: undefined });
    expect(events).toMatchObject([{ actor: "envelope", correlationId: "call" }]);
  });

  test("refuses a command type that two aggregates or none declare, and aggregates that are not on the bus", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Account).register(Till);
    // Calls that JavaScript allows.
    const loose = bus as unknown as { dispatch(first: unknown, second?: unknown): Promise<unknown> };
    await expect(loose.dispatch("a", { type: "Close" })).rejects.toMatchObject({
      code: "AMBIGUOUS_COMMAND",
      message: expect.stringMatching(/account and till/),
    });
    await expect(loose.dispatch("a", { type: "Explode" })).rejects.toMatchObject({ code: "UNKNOWN_COMMAND" });
    for (const type of ["constructor", "__proto__", "toString"])
      await expect(loose.dispatch("a", { type })).rejects.toMatchObject({ code: "UNKNOWN_COMMAND" });
    for (const command of [undefined, null, "Close", {}, { type: 5 }])
      await expect(loose.dispatch("a", command)).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    await expect(loose.dispatch(Counter.at("a").Clear())).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
    // An envelope names the aggregate.
    expect(await bus.dispatch(Till.at("t").Close())).toMatchObject({ state: 1 });
  });

  test("refuses two aggregates with one type on a bus", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Till);
    expect(() => bus.register({ ...Till })).toThrow(expect.objectContaining({ code: "DUPLICATE_DEFINITION" }));
    expect(bus.register(Till)).toBe(bus);
  });

  test("passes an idempotency key on", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Counter);
    for (const _ of [1, 2, 3]) await bus.dispatch("a", { type: "Add", data: { by: 1 } }, { idempotencyKey: "k" });
    expect(await store.get(Counter, "a").state()).toBe(1);
  });
});

describe("middleware", () => {
  test("runs around each command with the whole envelope, the first added outermost", async () => {
    await using store = await openStore();
    const log: string[] = [];
    const note =
      (name: string): Middleware<typeof Counter> =>
      async (envelope, next) => {
        log.push(`${name} ${envelope.aggregate}/${envelope.id} ${envelope.command.type} ${envelope.context?.actor}`);
        const result = await next(envelope);
        log.push(`${name} ${result.version}`);
        return result;
      };
    const bus = new CommandBus(store).register(Counter).use(note("outer")).use(note("inner"));
    await bus.dispatch("a", { type: "Add", data: { by: 1 } }, { actor: "u" });
    await bus.dispatch(Counter.at("a").Clear());
    await bus.dispatchUnknown({ aggregate: "counter", id: "b", command: { type: "Clear" } });
    expect(log).toEqual([
      ...["outer counter/a Add u", "inner counter/a Add u", "inner 1", "outer 1"],
      ...["outer counter/a Clear undefined", "inner counter/a Clear undefined", "inner 2", "outer 2"],
      ...["outer counter/b Clear undefined", "inner counter/b Clear undefined", "inner 1", "outer 1"],
    ]);
  });

  test("may change the envelope, refuse it, retry it, or see its error", async () => {
    await using store = await openStore();
    const failures: unknown[] = [];
    let attempts = 0;
    const bus = new CommandBus(store)
      .register(Account)
      .use(async (envelope, next) => {
        if (envelope.context?.actor === "mallory") throw new Error("not allowed");
        return next({ ...envelope, context: { ...envelope.context, metadata: { through: "bus" } } });
      })
      .use(async (envelope, next) => {
        try {
          return await next(envelope);
        } catch (error) {
          failures.push(error);
          if (++attempts > 1) throw error;
          await next(Account.at(envelope.id).Open({ owner: "?" }));
          return next(envelope);
        }
      });
    await expect(bus.dispatch("a", { type: "Open", data: { owner: "M" } }, { actor: "mallory" })).rejects.toThrow(
      "not allowed",
    );
    expect(await store.listStreams()).toEqual([]);
    expect(await bus.dispatch("a", { type: "Deposit", data: { amount: 1 } })).toMatchObject({ state: { balance: 1 } });
    await expect(bus.dispatch("a", { type: "Withdraw", data: { amount: 9 } })).rejects.toMatchObject({
      code: "COMMAND_REJECTED",
    });
    expect(failures).toMatchObject([{ rejection: { type: "NotOpen" } }, { rejection: { type: "InsufficientFunds" } }]);
    const events = await collect(store.readEvents("account", "a"));
    expect(events.map(({ metadata }) => metadata)).toEqual([{}, { through: "bus" }]);
  });

  test("cannot pass on a value that is no envelope", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store)
      .register(Counter)
      .use((_, next) => next({} as ReturnType<(typeof Counter)["at"]>["Clear"] extends () => infer E ? E : never));
    await expect(bus.dispatch(Counter.at("a").Clear())).rejects.toMatchObject({ code: "INVALID_COMMAND" });
  });
});

const TRUSTED = { context: "accept", unchecked: "accept" } as const;

describe("dispatchUnknown", () => {
  const good = { aggregate: "account", id: "ada", command: { type: "Open", data: { owner: "Ada" } } };

  test("accepts an envelope that arrived as JSON", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Account);
    const text = JSON.stringify({ ...good, context: { actor: "u", idempotencyKey: "k" } });
    for (const _ of [1, 2]) await bus.dispatchUnknown(JSON.parse(text), { sourceDevice: "web" }, TRUSTED);
    expect(await collect(store.readEvents("account", "ada"))).toMatchObject([{ actor: "u", sourceDevice: "web" }]);
  });

  const hostile: [string, string][] = [
    ["nothing", "null"],
    ["a number", "5"],
    ["an array", "[]"],
    ["no aggregate", JSON.stringify({ ...good, aggregate: undefined })],
    ["another kind of id", JSON.stringify({ ...good, id: { toString: "x" } })],
    ["an id that leaves the store", JSON.stringify({ ...good, id: "" })],
    ["no command", JSON.stringify({ ...good, command: null })],
    ["an unknown command", JSON.stringify({ ...good, command: { type: "Explode" } })],
    ["a command of the prototype", JSON.stringify({ ...good, command: { type: "constructor" } })],
    ["an unknown aggregate", JSON.stringify({ ...good, aggregate: "ghost" })],
    ["an aggregate of the prototype", JSON.stringify({ ...good, aggregate: "__proto__" })],
    ["one that is in the store and not on the bus", JSON.stringify(Counter.at("a").Clear())],
    ["a number as id", JSON.stringify({ ...good, id: 5 })],
    ["a list of ids", JSON.stringify({ ...good, id: ["ada"] })],
    ["a list as command", JSON.stringify({ ...good, command: ["Open"] })],
    [
      "something beside the command's type and data",
      JSON.stringify({ ...good, command: { ...good.command, context: {} } }),
    ],
    ["a prototype in the command", '{"aggregate":"account","id":"a","command":{"type":"Open","__proto__":{"data":1}}}'],
    [
      "huge nesting",
      `{"aggregate":"account","id":"a","command":{"type":"Open","data":${"[".repeat(5000)}${"]".repeat(5000)}}}`,
    ],
    ["something beside", JSON.stringify({ ...good, expectedVersion: 3 })],
    ["a prototype", `{"__proto__":{"admin":true},${JSON.stringify(good).slice(1)}`],
    [
      "a prototype in the payload",
      '{"aggregate":"account","id":"a","command":{"type":"Open","data":{"__proto__":{}}}}',
    ],
    ["a context that is none", JSON.stringify({ ...good, context: "u" })],
    ["a context that is an array", JSON.stringify({ ...good, context: [] })],
    ["an actor that is none", JSON.stringify({ ...good, context: { actor: 5 } })],
    ["a forged dispatch", JSON.stringify({ ...good, context: { dispatch: { manager: "m", depth: -1e9 } } })],
    ["a forged dispatch in its metadata", JSON.stringify({ ...good, context: { metadata: { dispatch: {} } } })],
  ];
  test.each(hostile)("refuses %s, with an error of ours, and writes nothing", async (_, text) => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Account);
    await expect(bus.dispatchUnknown(JSON.parse(text), {}, TRUSTED)).rejects.toMatchObject({
      name: expect.stringMatching(/^(EventfoldError|Invalid(Command|Payload)Error)$/),
      code: expect.stringMatching(/^(INVALID_(COMMAND|ID|CONTEXT|PAYLOAD)|UNKNOWN_(COMMAND|AGGREGATE))$/),
    });
    expect(await store.listStreams()).toEqual([]);
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
  });
});

describe("dispatchUnknown, by default", () => {
  const Checked = aggregate("checked", {
    initial: { names: [] as readonly string[] },
    events: { Named: data<{ name: string }>() },
    commands: { Name: nameSchema(), Loose: data<{ name: string }>(), Nothing: data() },
  }).define({
    handle: {
      Name: ({ data, emit }) => emit.Named(data),
      Loose: ({ data, emit }) => emit.Named(data),
      Nothing: ({ emit }) => emit.Named({ name: "nothing" }),
    },
    apply: { Named: ({ names }, { name }) => ({ names: [...names, name] }) },
  });

  function nameSchema(): StandardSchema<{ name: string }> {
    const validate = (value: unknown) =>
      typeof value === "object" && value !== null && "name" in value && typeof value.name === "string"
        ? { value: { name: value.name } }
        : { issues: [{ message: "expected a name" }] };
    return { "~standard": { version: 1, vendor: "test", validate } };
  }

  const envelope = (type: string, payload?: unknown, more: object = {}): unknown =>
    JSON.parse(JSON.stringify({ aggregate: "checked", id: "a", command: { type, data: payload }, ...more }));

  async function openBus() {
    const store = await AggregateStore.builder(memory())
      .aggregate(Checked)
      .ids(() => "e")
      .open();
    return { store, bus: new CommandBus(store).register(Checked) };
  }

  test("ignores the context of the JSON, and takes that of the caller", async () => {
    const { store, bus } = await openBus();
    const context = {
      actor: "admin",
      correlationId: "c",
      idempotencyKey: "k",
      sourceDevice: "d",
      metadata: { role: 1 },
    };
    for (const _ of [1, 2]) await bus.dispatchUnknown(envelope("Name", { name: "x" }, { context }), { actor: "ada" });
    const [event, second] = await collect(store.readEvents("checked", "a"));
    expect(second).toBeDefined();
    expect(event).toMatchObject({ actor: "ada" });
    for (const field of ["correlationId", "sourceDevice"]) expect(event).not.toHaveProperty(field, expect.anything());
    expect(JSON.stringify(event?.metadata ?? {})).not.toContain("role");
    await store.close();
  });

  test("refuses a payload that nothing checks", async () => {
    const { store, bus } = await openBus();
    await expect(bus.dispatchUnknown(envelope("Loose", { name: 5 }))).rejects.toMatchObject({
      code: "INVALID_COMMAND",
    });
    await expect(bus.dispatchUnknown(envelope("Nothing", { name: "x" }))).rejects.toMatchObject({
      code: "INVALID_COMMAND",
    });
    await expect(bus.dispatchUnknown(envelope("Name", { name: 5 }))).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    await bus.dispatchUnknown(envelope("Nothing"));
    await bus.dispatchUnknown(envelope("Name", { name: "x", admin: true }));
    await bus.dispatchUnknown(envelope("Loose", { name: "y" }), {}, { unchecked: "accept" });
    expect(await store.get(Checked, "a").state()).toEqual({ names: ["nothing", "x", "y"] });
    await store.close();
  });

  test("refuses options that it does not know", async () => {
    const { store, bus } = await openBus();
    const options = { context: "trust" } as never;
    await expect(bus.dispatchUnknown(envelope("Nothing"), {}, options)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await store.close();
  });
});

describe("the conditions of a command", () => {
  const add = Counter.commands.Add({ by: 1 });
  const envelope = Counter.at("a").Add({ by: 1 });
  type Options = {
    readonly expectedVersion?: number;
    readonly signal?: AbortSignal;
    readonly timeout?: number | "1ms";
  };
  type Bus = CommandBus<typeof Counter>;
  const ways: readonly [string, (bus: Bus, options: Options) => Promise<unknown>][] = [
    ["by type", (bus, options) => bus.dispatch("a", add, options)],
    ["as an envelope", (bus, options) => bus.dispatch(envelope, options)],
    ["from outside", (bus, options) => bus.dispatchUnknown({ ...envelope }, options, TRUSTED)],
  ];

  describe.each(ways)("hold for a command %s:", (_, send) => {
    test("the expected version", async () => {
      await using store = await openStore();
      const bus = new CommandBus(store).register(Counter);
      await send(bus, { expectedVersion: 0 });
      for (const expectedVersion of [0, 2])
        await expect(send(bus, { expectedVersion })).rejects.toMatchObject({ code: "CONFLICT", actualVersion: 1 });
      await expect(send(bus, { expectedVersion: -1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      expect(await store.head()).toBe(1);
    });

    test("a signal that is aborted already", async () => {
      await using store = await openStore();
      const bus = new CommandBus(store).register(Counter);
      await expect(send(bus, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
      expect(await store.head()).toBe(0);
    });

    test("a signal and a timeout while middleware waits, which then cannot send it", async () => {
      await using store = await openStore();
      let letGo = (): void => {};
      const held = new Promise<void>((resolve) => (letGo = resolve));
      const late: Promise<unknown>[] = [];
      const bus = new CommandBus(store).register(Counter).use(async (sent, next) => {
        await held;
        const result = next(sent);
        late.push(result.catch((error: unknown) => error));
        return result;
      });
      const controller = new AbortController();
      const reason = new Error("the user left");
      const aborted = send(bus, { signal: controller.signal });
      const timed = send(bus, { timeout: "1ms" });
      controller.abort(reason);
      await expect(aborted).rejects.toBe(reason);
      await expect(timed).rejects.toMatchObject({ code: "TIMEOUT" });
      letGo();
      await until(() => late.length === 2);
      expect(await Promise.all(late)).toEqual([reason, expect.objectContaining({ code: "TIMEOUT" })]);
      expect(await store.head()).toBe(0);
    });

    test("a signal that comes when the command is with the store tells nothing that the store does not know", async () => {
      await using store = await openStore();
      const controller = new AbortController();
      const bus = new CommandBus(store).register(Counter).use(async (sent, next) => {
        const result = await next(sent);
        controller.abort();
        await Promise.resolve();
        return result;
      });
      expect(await send(bus, { signal: controller.signal, timeout: 60_000 })).toMatchObject({ version: 1 });
      await expect(send(bus, { signal: controller.signal })).rejects.toMatchObject({ name: "AbortError" });
      expect(await store.head()).toBe(1);
    });
  });

  test("cannot be set by JSON from outside", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Counter);
    for (const field of ["expectedVersion", "signal", "timeout"]) {
      const json: unknown = JSON.parse(JSON.stringify({ ...envelope, context: { [field]: 0 } }));
      await expect(bus.dispatchUnknown(json, {}, TRUSTED)).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    }
    expect(await store.head()).toBe(0);
  });

  test("and a context that is none are refused", async () => {
    await using store = await openStore();
    const bus = new CommandBus(store).register(Counter);
    for (const context of ["u", 5, true])
      await expect(bus.dispatch(envelope, context as never)).rejects.toMatchObject({ code: "INVALID_CONTEXT" });
    await expect(store.dispatch(envelope, "u" as never)).rejects.toMatchObject({ code: "INVALID_CONTEXT" });
    expect(await store.head()).toBe(0);
  });
});
