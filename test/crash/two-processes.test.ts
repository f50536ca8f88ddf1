import { type AggregateHandle, AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { allLines, holes, oneTo, streamFiles } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Worker } from "../support/worker.ts";

type Pace = "one by one" | "all at once";

async function openAccounts(directory: string, ids: readonly string[]): Promise<void> {
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  await store.dispatchAll(ids.map((id) => Account.at(id).Open({ owner: "Ada" })));
  await store.close();
}

/** Lets workers deposit at the same time. Returns the versions after their commands. */
async function depositTogether(
  directory: string,
  workers: readonly { readonly ids: readonly string[]; readonly commands: number; readonly pace: Pace }[],
): Promise<number[][]> {
  const started = workers.map((options) => new Worker("deposit-worker.ts", { directory, ...options }));
  for (const worker of started) expect(await worker.line()).toBe("ready");
  for (const worker of started) worker.send("go");
  return Promise.all(
    started.map(async (worker) => {
      const { versions, failures } = JSON.parse(await worker.line()) as { versions: number[]; failures: string[] };
      expect(failures).toEqual([]);
      expect(await worker.exited).toBe(0);
      return versions;
    }),
  );
}

function expectPositionsWithoutHoles(directory: string): void {
  const positions = allLines(directory).map(({ line }) => line.pos ?? 0);
  expect(holes(positions, positions.length)).toBeUndefined();
}

async function collectVersions(handle: AggregateHandle<typeof Account>): Promise<number[]> {
  return (await collect(handle.events())).map(({ version }) => version);
}

describe("two processes", () => {
  const paces: [Pace, Pace][] = [
    ["one by one", "one by one"],
    ["all at once", "all at once"],
    ["one by one", "all at once"],
  ];
  test.each(paces)("on one instance, %s and %s, lose and duplicate no event", async (first, second) => {
    const directory = temporaryDirectory();
    await openAccounts(directory, ["shared"]);
    const [a = [], b = []] = await depositTogether(directory, [
      { ids: ["shared"], commands: 1000, pace: first },
      { ids: ["shared"], commands: 1000, pace: second },
    ]);
    // Version 1 is Opened.
    expect(holes([...a, ...b], 2001, 2)).toBeUndefined();
    expect(allLines(directory)).toHaveLength(2001);
    expectPositionsWithoutHoles(directory);

    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    const shared = store.get(Account, "shared");
    expect((await shared.state()).balance).toBe(2000);
    expect(holes(await collectVersions(shared), 2001)).toBeUndefined();
  });

  test("on different instances do not disturb each other", async () => {
    const directory = temporaryDirectory();
    const ids = oneTo(20).map((n) => `a-${n}`);
    await openAccounts(directory, ids);
    await depositTogether(directory, [
      { ids: ids.slice(0, 10), commands: 500, pace: "all at once" },
      { ids: ids.slice(10), commands: 500, pace: "one by one" },
    ]);
    expect(streamFiles(directory).size).toBe(20);
    expectPositionsWithoutHoles(directory);
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    for (const id of ids) expect((await store.get(Account, id).state()).balance).toBe(50);
  });

  test("let a third process read whole events in order meanwhile", async () => {
    const directory = temporaryDirectory();
    await openAccounts(directory, ["shared"]);
    const reader = new Worker("reader-worker.ts", { directory, id: "shared" });
    expect(await reader.line()).toBe("ready");
    await depositTogether(directory, [
      { ids: ["shared"], commands: 500, pace: "one by one" },
      { ids: ["shared"], commands: 500, pace: "all at once" },
    ]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    reader.send("stop");
    const { reads, highest, problems } = JSON.parse(await reader.line()) as {
      reads: number;
      highest: number;
      problems: string[];
    };
    expect(problems).toEqual([]);
    expect(highest).toBe(1001);
    expect(reads).toBeGreaterThan(3);
  });
});

describe("two stores on one directory", () => {
  test("commands that were decided on an older version are decided again, and count once", async () => {
    const directory = temporaryDirectory();
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    const mine = one.get(Account, "shared");
    const theirs = two.get(Account, "shared");
    await mine.execute({ type: "Open", data: { owner: "Ada" } });
    await theirs.state();
    await theirs.execute({ type: "Deposit", data: { amount: 100 } });
    // The second command expects the stream's present version, but it was decided after the first.
    const results = await Promise.all([1, 2, 3].map((amount) => mine.execute({ type: "Deposit", data: { amount } })));
    expect(results.map(({ version }) => version)).toEqual([3, 4, 5]);
    expect(results.map(({ state }) => state.balance)).toEqual([101, 103, 106]);
    expect(allLines(directory)).toHaveLength(5);
    expect((await theirs.state()).balance).toBe(106);
  });

  test("a command is decided on the events of the other store", async () => {
    const directory = temporaryDirectory();
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    const mine = one.get(Account, "shared");
    const theirs = two.get(Account, "shared");
    await mine.execute({ type: "Open", data: { owner: "Ada" } });
    await mine.execute({ type: "Deposit", data: { amount: 10 } });
    expect((await theirs.state()).balance).toBe(10);
    await theirs.execute({ type: "Withdraw", data: { amount: 10 } });
    const attempt = await mine.try({ type: "Withdraw", data: { amount: 1 } });
    expect(attempt).toEqual({
      ok: false,
      rejection: { type: "InsufficientFunds", data: { balance: 0, needed: 1 } },
    });
  });

  test("neither replies from a state older than the other's acknowledged events", async () => {
    const directory = temporaryDirectory();
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    const mine = one.get(Account, "shared");
    const theirs = two.get(Account, "shared");
    expect(await theirs.state()).toEqual({ open: false, balance: 0 });
    await mine.execute({ type: "Open", data: { owner: "Ada" } });
    // A rejection writes nothing, so it cannot conflict.
    expect(await theirs.try({ type: "Deposit", data: { amount: 5 } })).toMatchObject({ ok: true, version: 2 });
    // A command without events.
    expect(await mine.execute({ type: "Open", data: { owner: "Bob" } })).toMatchObject({ events: [], version: 2 });
    // A command with the same idempotency key.
    const context = { idempotencyKey: "k" };
    const first = await mine.execute({ type: "Deposit", data: { amount: 1 } }, context);
    expect(await theirs.execute({ type: "Deposit", data: { amount: 1 } }, context)).toEqual(first);
    const both = [mine, theirs].map((account) =>
      account.execute({ type: "Deposit", data: { amount: 1 } }, { idempotencyKey: "at once" }),
    );
    const [a, b] = await Promise.all(both);
    expect(a).toEqual(b);
    expect(await mine.state()).toEqual({ open: true, balance: 7 });
  });

  test("each store lists the other's new instances", async () => {
    const directory = temporaryDirectory();
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    await one.get(Account, "a").execute({ type: "Open", data: { owner: "Ada" } });
    await two.get(Account, "b").execute({ type: "Open", data: { owner: "Bob" } });
    expect(await one.list(Account)).toEqual(["a", "b"]);
    expect(await two.list(Account)).toEqual(["a", "b"]);
  });

  test("two commits over the same instances at once both succeed", async () => {
    const directory = temporaryDirectory();
    await openAccounts(directory, ["a", "b"]);
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    const deposits = oneTo(20).flatMap(() => [
      one.dispatchAll([Account.at("a").Deposit({ amount: 1 }), Account.at("b").Deposit({ amount: 1 })]),
      two.dispatchAll([Account.at("b").Deposit({ amount: 1 }), Account.at("a").Deposit({ amount: 1 })]),
    ]);
    await Promise.all(deposits);
    expect(await one.get(Account, "a").state()).toEqual(await two.get(Account, "b").state());
    expect((await one.get(Account, "a").state()).balance).toBe(40);
    expect(allLines(directory)).toHaveLength(82);
  });
});
