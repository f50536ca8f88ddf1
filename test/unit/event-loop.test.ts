import { existsSync } from "node:fs";
import { AggregateStore, memory } from "eventfold-es";
import { afterEach, describe, expect, test, vi } from "vitest";
import { isTurnLong, turn } from "../../src/event-loop.ts";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

function work(ms: number): void {
  for (const started = performance.now(); performance.now() - started < ms;);
}

/** How often the event loop had its turn during some work, and the processor time that it took: other processes do not count. */
async function turnsDuring(task: () => Promise<unknown>): Promise<{ readonly turns: number; readonly ms: number }> {
  let turns = 0;
  let done = false;
  const count = (): void => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  const started = process.cpuUsage();
  await task();
  done = true;
  const { user, system } = process.cpuUsage(started);
  return { turns, ms: (user + system) / 1000 };
}

afterEach(() => {
  vi.useRealTimers();
});

describe("the event loop's turn", () => {
  test("is long when many tasks do a little each, and short again afterwards", async () => {
    await turn();
    const answers: boolean[] = [];
    for (let n = 0; n < 10; n++) {
      answers.push(isTurnLong());
      work(2);
      await Promise.resolve();
    }
    expect(answers[0]).toBe(false);
    expect(isTurnLong()).toBe(true);
    await turn();
    expect(isTurnLong()).toBe(false);
  });

  test.each([
    ["on disk", () => AggregateStore.builder(temporaryDirectory())],
    ["in memory", () => AggregateStore.builder(memory())],
  ])("comes between commands %s, thousands at once or one after the other", async (_, builder) => {
    await using store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    const deposit = () => ada.execute(Account.commands.Deposit({ amount: 1 }));
    const { turns, ms } = await turnsDuring(async () => {
      await Promise.all(Array.from({ length: 3000 }, deposit));
      for (let n = 0; n < 300; n++) await deposit();
    });
    // At least one for every 50 ms of work. If commands never paused, there would be two or three in all.
    expect(turns).toBeGreaterThan(ms / 50);
    expect((await ada.state()).balance).toBe(3300);
  });

  test("comes between snapshots that are due at the same time", async () => {
    const directory = temporaryDirectory();
    const store = await AggregateStore.builder(directory).aggregate(Account).open();
    const handles = Array.from({ length: 150 }, (_, n) => store.get(Account, `account-${n}`));
    await Promise.all(handles.map((handle) => handle.execute(Account.commands.Open({ owner: "Ada" }))));
    const amounts = Array.from({ length: 100 }, () => 1);
    await Promise.all(handles.map((handle) => handle.execute(Account.commands.Split({ amounts }))));
    const { turns, ms } = await turnsDuring(() => store.close());
    expect(turns).toBeGreaterThan(ms / 50);
    for (const { id } of handles)
      expect(existsSync(`${directory}/streams/account/${id}/views/state.snapshot.json`), id).toBe(true);
  });

  test("is real although a test has replaced the timers", async () => {
    const store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    vi.useFakeTimers({ toFake: ["setImmediate", "setTimeout"] });
    for (let n = 0; n < 5; n++) {
      work(15);
      await Promise.all(Array.from({ length: 20 }, () => ada.execute(Account.commands.Deposit({ amount: 1 }))));
    }
    vi.useRealTimers();
    expect((await ada.state()).balance).toBe(100);
    await store.close();
  });
});
