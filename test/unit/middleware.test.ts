import {
  aggregate,
  AggregateStore,
  CommandBus,
  data,
  type EnvelopeFor,
  EventfoldError,
  memory,
  type Middleware,
  processManager,
} from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";

/** Deposits one for each count. */
const Mirror = processManager("mirror", { dispatches: [Account] }).on(Counter, {
  Added: (_, event) => Account.at(event.id).Deposit({ amount: event.data.by }),
});

function recorder(): { readonly seen: string[]; readonly middleware: (name: string) => Middleware } {
  const seen: string[] = [];
  return {
    seen,
    middleware: (name) => async (envelope, next) => {
      seen.push(`${name} ${envelope.aggregate}/${envelope.id} ${envelope.command.type}`);
      const result = await next(envelope);
      seen.push(`${name} v${result.version}`);
      return result;
    },
  };
}

const builder = () => AggregateStore.builder(memory()).aggregate(Account).aggregate(Counter);

describe("middleware of a store", () => {
  test("runs around the commands of handles, dispatch and dispatchAll, the first added outermost", async () => {
    const { seen, middleware } = recorder();
    await using store = await builder().use(middleware("outer")).use(middleware("inner")).open();
    const result = await store.get(Account, "ada").execute({ type: "Open", data: { owner: "Ada" } });
    expect(result).toMatchObject({ version: 1, position: 1, state: { open: true } });
    expect(seen.splice(0)).toEqual(["outer account/ada Open", "inner account/ada Open", "inner v1", "outer v1"]);
    expect(await store.dispatch(Account.at("ada").Deposit({ amount: 5 }))).toMatchObject({ version: 2 });
    expect(seen.splice(0)).toEqual(["outer account/ada Deposit", "inner account/ada Deposit", "inner v2", "outer v2"]);
    const { results, position } = await store.dispatchAll([
      Account.at("ada").Withdraw({ amount: 1 }),
      Counter.at("c").Add({ by: 1 }),
    ]);
    expect(results.map(({ version }) => version)).toEqual([3, 1]);
    expect(position).toBe(4);
    expect(seen.filter((line) => line.startsWith("inner ")).length).toBe(4);
  });

  test("sees the context of a call, and passes on another envelope", async () => {
    const actors: unknown[] = [];
    await using store = await builder()
      .use(async (envelope, next) => {
        actors.push(envelope.context?.actor);
        return next({ ...envelope, context: { ...envelope.context, metadata: { tenant: "t-1" } } });
      })
      .open();
    await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } }, { actor: "handle" });
    await store.dispatch({ ...Counter.at("a").Add({ by: 1 }), context: { actor: "envelope" } });
    await store.dispatchAll([Counter.at("a").Add({ by: 1 })], { actor: "all" });
    expect(actors).toEqual(["handle", "envelope", "all"]);
    for await (const event of store.events()) expect(event.metadata).toEqual({ tenant: "t-1" });
  });

  test("may send a command to another instance, or another command", async () => {
    await using store = await builder()
      .use((envelope, next) => next({ ...envelope, id: envelope.id.toLowerCase() }))
      .open();
    await store.get(Counter, "UPPER").execute({ type: "Add", data: { by: 2 } });
    await store.dispatchAll([Counter.at("UPPER").Add({ by: 3 }), Counter.at("Other").Add({ by: 1 })]);
    expect(await store.get(Counter, "upper").state()).toBe(5);
    expect(await store.list(Counter)).toEqual(["other", "upper"]);
  });

  test("refuses a command by throwing, and nothing is written", async () => {
    await using store = await builder()
      .use(async (envelope, next) => {
        if (envelope.id === "forbidden") throw new Error("not allowed");
        return next(envelope);
      })
      .open();
    await expect(store.get(Counter, "forbidden").execute({ type: "Add", data: { by: 1 } })).rejects.toThrow(/allowed/);
    await expect(store.dispatch(Counter.at("forbidden").Add({ by: 1 }))).rejects.toThrow("not allowed");
    const both = [Counter.at("free").Add({ by: 1 }), Counter.at("forbidden").Add({ by: 1 })];
    await expect(store.dispatchAll(both)).rejects.toThrow("not allowed");
    await expect(store.dispatchAll(both.toReversed())).rejects.toThrow("not allowed");
    expect(await store.head()).toBe(0);
  });

  test("sees rejections as errors of next, also when commands are written together", async () => {
    const errors: string[] = [];
    await using store = await builder()
      .use(async (envelope, next) => {
        try {
          return await next(envelope);
        } catch (error) {
          errors.push((error as EventfoldError).code);
          throw error;
        }
      })
      .open();
    const outcome = await store.get(Account, "a").try({ type: "Deposit", data: { amount: 1 } });
    expect(outcome).toMatchObject({ ok: false, rejection: { type: "NotOpen" } });
    await expect(
      store.dispatchAll([Counter.at("c").Add({ by: 1 }), Account.at("a").Deposit({ amount: 1 })]),
    ).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
    expect(errors).toEqual(["COMMAND_REJECTED", "COMMAND_REJECTED", "COMMAND_REJECTED"]);
    expect(await store.head()).toBe(0);
  });

  test("checks the command that comes out of the middleware, not the one that goes in", async () => {
    const Strict = aggregate("strict", {
      initial: 0,
      events: { Set: data<{ to: number }>() },
      commands: { Set: data<{ to: number }>() },
    }).define({ handle: { Set: ({ data, emit }) => emit.Set(data) }, apply: { Set: (_, { to }) => to } });
    await using store = await AggregateStore.builder(memory())
      .aggregate(Strict)
      .use((envelope, next) => next({ ...envelope, command: { type: "Set", data: { to: new Date(0) as never } } }))
      .open();
    await expect(store.get(Strict, "a").execute({ type: "Set", data: { to: 1 } })).rejects.toMatchObject({
      code: "INVALID_PAYLOAD",
    });
    await using plain = await AggregateStore.builder(memory())
      .aggregate(Strict)
      .use((envelope) => envelope as never)
      .use((envelope, next) => next(envelope))
      .open();
    // Middleware that answers by itself.
    expect(await plain.get(Strict, "a").execute({ type: "Set", data: { to: 1 } })).toMatchObject({ id: "a" });
    expect(await plain.head()).toBe(0);
  });

  test("throws INVALID_COMMAND when middleware passes on something else than an envelope", async () => {
    await using store = await builder()
      .use((_, next) => next({ id: 5 } as never))
      .open();
    await expect(store.dispatch(Counter.at("a").Add({ by: 1 }))).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    await expect(store.dispatchAll([Counter.at("a").Add({ by: 1 })])).rejects.toMatchObject({
      code: "INVALID_COMMAND",
    });
  });

  test("may try a single command again, but not one of several", async () => {
    let failures = 1;
    const twice: Middleware = async (envelope, next) => {
      try {
        if (failures-- > 0) throw new EventfoldError("CONFLICT", "as if another process came first");
        return await next(envelope);
      } catch {
        return next(envelope);
      }
    };
    await using store = await builder().use(twice).open();
    expect(await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } })).toMatchObject({ version: 1 });
    await using again = await builder()
      .use(async (envelope, next) => {
        await next(envelope);
        return next(envelope);
      })
      .open();
    expect(await again.get(Counter, "a").execute({ type: "Add", data: { by: 1 } })).toMatchObject({ version: 2 });
    await expect(
      again.dispatchAll([Counter.at("a").Add({ by: 1 }), Counter.at("b").Add({ by: 1 })]),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("ends when the caller no longer waits, also if middleware does not", async () => {
    await using store = await builder()
      .use(async (envelope, next) => (envelope.id === "slow" ? new Promise(() => {}) : next(envelope)))
      .open();
    const fast = store.get(Counter, "fast").execute({ type: "Add", data: { by: 1 } }, { timeout: "5s" });
    expect(await fast).toMatchObject({ version: 1 });
    const slow = store.get(Counter, "slow").execute({ type: "Add", data: { by: 1 } }, { timeout: 1 });
    await expect(slow).rejects.toMatchObject({ code: "TIMEOUT" });
    const given = AbortSignal.abort(new Error("given up"));
    await expect(store.dispatch(Counter.at("slow").Add({ by: 1 }), { signal: given })).rejects.toThrow("given up");
    await expect(
      store.get(Counter, "fast").execute({ type: "Add", data: { by: 1 } }, { expectedVersion: 0 }),
    ).rejects.toMatchObject({ code: "CONFLICT" });
  });

  test("is refused if it is not a function", () => {
    expect(() => builder().use("logger" as never)).toThrow(/use expected a function, found "logger"/);
  });
});

describe("middleware of a store and others", () => {
  test("runs inside the middleware of a bus", async () => {
    const { seen, middleware } = recorder();
    await using store = await builder().use(middleware("store")).open();
    const bus = new CommandBus(store).register(Counter).use(middleware("bus"));
    await bus.dispatch("a", { type: "Add", data: { by: 1 } });
    expect(seen).toEqual(["bus counter/a Add", "store counter/a Add", "store v1", "bus v1"]);
  });

  test("runs around the commands of process managers, which stay exactly once", async () => {
    const envelopes: EnvelopeFor<typeof Account | typeof Counter>[] = [];
    await using store = await AggregateStore.builder(memory())
      .aggregate(Account)
      .aggregate(Counter)
      .processManager(Mirror)
      .processManagerMode("manual")
      .use(async (envelope, next) => {
        envelopes.push(envelope);
        const result = await next({ ...envelope, context: { ...envelope.context, actor: "middleware" } });
        expect(result.version).toBeGreaterThan(0);
        return result;
      })
      .open();
    await store.get(Account, "a").execute({ type: "Open", data: { owner: "Ada" } });
    const { events } = await store.get(Counter, "a").execute({ type: "Add", data: { by: 3 } });
    envelopes.length = 0;
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(envelopes).toMatchObject([{ aggregate: "account", context: { causationId: events[0]?.eventId } }]);
    const [, deposited] = await collect(store.readEvents("account", "a"));
    expect(deposited).toMatchObject({ type: "Deposited", actor: "middleware", causationId: events[0]?.eventId });
  });

  test("makes a dead letter of a process manager's command that it refuses, or that is rejected", async () => {
    let isRefusing = true;
    await using store = await AggregateStore.builder(memory())
      .aggregate(Account)
      .aggregate(Counter)
      .processManager(Mirror)
      .processManagerMode("manual")
      .use(async (envelope, next) => {
        if (isRefusing && envelope.aggregate === "account") throw new Error("not now");
        return next(envelope);
      })
      .open();
    await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    isRefusing = false;
    await store.get(Counter, "a").execute({ type: "Add", data: { by: 2 } });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    const letters = await store.deadLetters();
    expect(letters.map(({ error }) => error)).toEqual([
      "command execution failed: not now",
      expect.stringMatching(/rejected Deposit: NotOpen/),
    ]);
    await expect(store.replayDeadLetter(letters[0]?.key ?? "")).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
    await store.get(Account, "a").execute({ type: "Open", data: { owner: "Ada" } });
    for (const { key } of letters) await store.replayDeadLetter(key);
    expect(await store.deadLetters()).toEqual([]);
    expect(await store.get(Account, "a").state()).toMatchObject({ balance: 3 });
  });

  test("goes on after a command that middleware answers by itself", async () => {
    await using store = await AggregateStore.builder(memory())
      .aggregate(Account)
      .aggregate(Counter)
      .processManager(Mirror)
      .processManagerMode("manual")
      .use(async (envelope, next) =>
        envelope.aggregate === "account" ? { events: [], state: 0, version: 0, position: 0 } : next(envelope),
      )
      .open();
    await store.get(Counter, "a").execute({ type: "Add", data: { by: 1 } });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await store.list(Account)).toEqual([]);
  });
});

describe("bus.try", () => {
  test("gives a rejection as a value, for a command and for an envelope, and throws everything else", async () => {
    await using store = await builder().open();
    const bus = new CommandBus(store).register(Account);
    expect(await bus.try("a", { type: "Deposit", data: { amount: 1 } })).toEqual({
      ok: false,
      rejection: { type: "NotOpen" },
    });
    expect(await bus.try(Account.at("a").Open({ owner: "Ada" }), { actor: "u" })).toMatchObject({
      ok: true,
      version: 1,
      events: [{ actor: "u" }],
    });
    await expect(bus.try("a", Account.commands.Crash())).rejects.toThrow("a bug in handle");
    await expect(bus.try("a", { type: "Add" } as never)).rejects.toMatchObject({ code: "UNKNOWN_COMMAND" });
  });
});
