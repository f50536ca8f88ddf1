import diagnostics from "node:diagnostics_channel";
import { describe, expect, onTestFinished, test } from "vitest";
import { AggregateStore, memory, processManager, projection } from "eventfold-es";
import { executing } from "../../src/tracing/tracing.ts";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const { Open, Deposit, Withdraw } = Account.commands;

type Told = Readonly<Record<string, unknown>>;

/** The events of a tracing channel during a test: each one's name and a copy of its message. */
function listen(name: string): [string, Told][] {
  const heard: [string, Told][] = [];
  const channel = diagnostics.tracingChannel<unknown, object>(`eventfold-es:${name}`);
  const hear = (event: string) => (message: object) => void heard.push([event, { ...message }]);
  const subscribers = {
    start: hear("start"),
    end: hear("end"),
    asyncStart: hear("asyncStart"),
    asyncEnd: hear("asyncEnd"),
    error: hear("error"),
  };
  channel.subscribe(subscribers);
  onTestFinished(() => {
    channel.unsubscribe(subscribers);
  });
  return heard;
}

function listenTo(name: string): Told[] {
  const heard: Told[] = [];
  const hear = (message: unknown): void => void heard.push(message as Told);
  diagnostics.subscribe(`eventfold-es:${name}`, hear);
  onTestFinished(() => {
    diagnostics.unsubscribe(`eventfold-es:${name}`, hear);
  });
  return heard;
}

function ends(heard: readonly [string, Told][]): Told[] {
  return heard.filter(([event]) => event === "asyncEnd").map(([, message]) => message);
}

describe("tracing", () => {
  test("publishes a command with its instance, result and duration", async () => {
    const heard = listen("execute");
    await using store = await AggregateStore.open(temporaryDirectory());
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }), { actor: "u-1", correlationId: "r-1" });
    expect(heard.map(([event]) => event)).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    const told = { aggregate: "account", id: "ada", command: "Open", actor: "u-1", correlationId: "r-1" };
    expect(heard[0]?.[1]).toEqual(told);
    expect(ends(heard)).toEqual([
      expect.objectContaining({ ...told, events: 1, version: 1, position: 1, duration: expect.any(Number) }),
    ]);
  });

  test("publishes a rejection and an error", async () => {
    const heard = listen("execute");
    const store = await AggregateStore.open(memory());
    await store.get(Account, "ada").try(Withdraw({ amount: 1 }));
    await expect(
      store.get(Account, "ada").execute({ type: "Deposit", data: { amount: 1n as never } }),
    ).rejects.toThrow();
    const errors = heard.filter(([event]) => event === "error");
    expect(errors.map(([, { command, rejection }]) => [command, rejection])).toContainEqual(["Withdraw", "NotOpen"]);
    expect(errors[0]?.[1]["error"]).toMatchObject({ code: "COMMAND_REJECTED" });
    await store.close();
  });

  test("publishes a commit, a load and a dispatch", async () => {
    const [commits, loads, dispatches] = [listen("commit"), listen("load"), listen("dispatch")];
    const directory = temporaryDirectory();
    let store = await AggregateStore.builder(directory).aggregate(Account).open();
    await store.dispatchAll([Account.at("ada").Open({ owner: "Ada" }), Account.at("bob").Open({ owner: "Bob" })]);
    expect(ends(commits)).toEqual([
      expect.objectContaining({
        streams: [
          { aggregate: "account", id: "ada", events: 1 },
          { aggregate: "account", id: "bob", events: 1 },
        ],
        events: 2,
        position: 2,
      }),
    ]);
    expect(ends(dispatches)).toEqual([
      expect.objectContaining({
        commands: [
          { aggregate: "account", id: "ada", command: "Open" },
          { aggregate: "account", id: "bob", command: "Open" },
        ],
        events: 2,
        position: 2,
      }),
    ]);
    await store.get(Account, "ada").execute(Deposit({ amount: 1 }));
    await store.close();
    store = await AggregateStore.builder(directory).aggregate(Account).open();
    await store.get(Account, "ada").state();
    expect(ends(loads).at(-1)).toMatchObject({ aggregate: "account", id: "ada", events: 2, version: 2, position: 3 });
    await store.close();
  });

  test("publishes loaded and evicted instances, and their snapshots", async () => {
    const [loaded, evicted, snapshots] = [
      listenTo("instance-loaded"),
      listenTo("instance-evicted"),
      listenTo("snapshot"),
    ];
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).idleTimeout(20).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(loaded).toEqual([{ aggregate: "account", id: "ada" }]);
    await until(() => evicted.length > 0);
    expect(evicted).toEqual([{ aggregate: "account", id: "ada", version: 1 }]);
    expect(snapshots).toEqual([{ aggregate: "account", id: "ada", version: 1 }]);
  });

  test("publishes a recovery", async () => {
    const recoveries = listenTo("recovery");
    const directory = temporaryDirectory();
    await using dying = await AggregateStore.open(directory);
    await dying.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(recoveries).toEqual([]);
    // Another process opens the store before the first has recorded the ends of the streams' files.
    await using store = await AggregateStore.open(directory);
    expect(recoveries).toEqual([{ directory, from: 0, position: 1, tornBytes: 0 }]);
    await store.close();
  });

  test("publishes how much a projection has read, and nothing when there is no new event", async () => {
    const heard = listen("project");
    const Sum = projection("sum", { sum: 0 }).on(Account, {
      Deposited: (state, { data }) => void (state.sum += data.amount),
    });
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).projection(Sum).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await store.get(Account, "ada").execute(Deposit({ amount: 1 }));
    await store.projection(Sum);
    await store.projection(Sum);
    await store.rebuildProjection(Sum);
    expect(ends(heard)).toEqual([
      expect.objectContaining({ projection: "sum", from: 0, rebuild: false, events: 1, position: 2 }),
      expect.objectContaining({ projection: "sum", from: 0, rebuild: true, events: 1, position: 2 }),
    ]);
  });

  test("publishes a process manager's reactions, commands and dead letters", async () => {
    const [reactions, dispatches, commits, letters] = [
      listen("react"),
      listen("dispatch"),
      listen("commit"),
      listenTo("dead-letter"),
    ];
    const Bonus = processManager("bonus", { dispatches: [Account], initial: {} }).on(Account, {
      Opened: (_, { id }) => (id === "ada" ? { dispatch: Account.at("ada").Deposit({ amount: 5 }) } : undefined),
      Deposited: (_, { data }) =>
        data.amount === 5 ? { dispatch: Account.at("ghost").Deposit({ amount: 1 }) } : undefined,
    });
    await using store = await AggregateStore.builder(temporaryDirectory())
      .aggregate(Account)
      .processManager(Bonus)
      .processManagerMode("manual")
      .open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 1 });
    const about = { processManager: "bonus", aggregate: "account", id: "ada" };
    expect(reactions.filter(([event]) => event === "end").map(([, message]) => message)).toEqual([
      expect.objectContaining({ ...about, event: "Opened", position: 1, commands: 1, duration: expect.any(Number) }),
      expect.objectContaining({ ...about, event: "Deposited", position: 2, commands: 1 }),
    ]);
    expect(ends(dispatches)).toEqual([
      expect.objectContaining({
        processManager: "bonus",
        commands: [{ aggregate: "account", id: "ada", command: "Deposit" }],
        cause: 1,
        events: 1,
        position: 2,
      }),
      expect.objectContaining({
        commands: [{ aggregate: "account", id: "ghost", command: "Deposit" }],
        cause: 2,
        deadLetter: true,
      }),
    ]);
    expect(ends(commits).map(({ processManager: name, events }) => [name, events])).toEqual([
      [undefined, 1],
      // The note that names its handlers.
      ["bonus", 0],
      ["bonus", 1],
      ["bonus", 0],
    ]);
    const letter = { processManager: "bonus", aggregate: "account", id: "ghost", command: "Deposit" };
    expect(letters).toEqual([{ ...letter, key: expect.any(String), reason: expect.stringContaining("NotOpen") }]);
  });

  test("builds no message without a subscriber", async () => {
    let asked = 0;
    const begin = () => {
      asked++;
      return { aggregate: "a", id: "1", command: "C", actor: undefined, correlationId: undefined, metadata: undefined };
    };
    expect(await executing.promise(begin, async (trace) => trace)).toBe(undefined);
    expect(asked).toBe(0);
    const channel = diagnostics.tracingChannel("eventfold-es:execute").asyncEnd as diagnostics.Channel;
    const hear = (): void => {};
    channel.subscribe(hear);
    expect(await executing.promise(begin, async (trace) => trace)).toMatchObject({ command: "C" });
    channel.unsubscribe(hear);
    expect(asked).toBe(1);
  });
});
