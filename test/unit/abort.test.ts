import { getEventListeners } from "node:events";
import { types } from "node:util";
import { describe, expect, test } from "vitest";
import { anyAborted, whenAborted } from "../../src/abort.ts";
import { Counter } from "../support/counter.ts";
import { oneTo } from "../support/store-files.ts";
import { backends } from "../support/backends.ts";
import { until } from "../support/until.ts";

const listeners = (signal: AbortSignal): number => getEventListeners(signal, "abort").length;

describe("a signal that follows others", () => {
  test("is aborted when any of them is, or already was", () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const both = anyAborted([first.signal, undefined, second.signal]);
    expect(both.signal.aborted).toBe(false);
    second.abort();
    expect(both.signal.aborted).toBe(true);
    expect(anyAborted([first.signal, second.signal]).signal.aborted).toBe(true);
  });

  test("does not listen any more after its release", () => {
    const source = new AbortController();
    const links = oneTo(30).map(() => anyAborted([source.signal]));
    expect(listeners(source.signal)).toBe(1);
    for (const link of links) link.release();
    expect(listeners(source.signal)).toBe(0);
    source.abort();
    expect(links.some(({ signal }) => signal.aborted)).toBe(false);
  });

  test("calls each of those that wait once, and not the one that was taken back", () => {
    const source = new AbortController();
    const calls: string[] = [];
    whenAborted(source.signal, () => calls.push("first"));
    const takeBack = whenAborted(source.signal, () => calls.push("second"));
    whenAborted(source.signal, () => calls.push("third"));
    takeBack();
    takeBack();
    source.abort();
    expect(calls).toEqual(["first", "third"]);
  });
});

describe.each(backends)("subscriptions that have ended $backend", ({ builder }) => {
  /** What a signal keeps of those that follow it: in Node.js 20, `AbortSignal.any` leaves something in such a set for ever. */
  const kept = (signal: AbortSignal): number =>
    Object.getOwnPropertySymbols(signal)
      .map((symbol) => (signal as unknown as Record<symbol, unknown>)[symbol])
      .reduce<number>((sum, value) => sum + (types.isSet(value) ? value.size : 0), listeners(signal));

  test("leave nothing in a signal, the user's or the store's: loops and handlers", async () => {
    const signals: AbortSignal[] = [];
    const Native = globalThis.AbortController;
    globalThis.AbortController = class extends Native {
      constructor() {
        super();
        signals.push(this.signal);
      }
    };
    try {
      await using store = await builder().aggregate(Counter).open();
      const ofStore = [...signals];
      expect(ofStore.length).toBeGreaterThan(0);
      await store.dispatch(Counter.at("a").Add({ by: 1 }));
      const user = new Native();
      for (const options of [{}, { signal: user.signal }]) {
        for (let n = 0; n < 20; n++) {
          for await (const _ of store.subscribe(options)) break;
          await new Promise<void>((resolve) => {
            const subscription = store.subscribe(options, () => {
              resolve();
              void subscription.close();
            });
          });
        }
      }
      await until(() => kept(user.signal) === 0);
      expect(ofStore.map(kept)).toEqual(ofStore.map(() => 0));
    } finally {
      globalThis.AbortController = Native;
    }
  });

  test("do not warn of a leak when many of them share a signal", async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on("warning", warned);
    const user = new AbortController();
    const store = await builder().aggregate(Counter).open();
    const running = oneTo(20).map(() => store.subscribe({ signal: user.signal }, () => {}));
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    user.abort();
    await Promise.all(running.map(({ done }) => done));
    await store.close();
    await new Promise((resolve) => setTimeout(resolve));
    process.off("warning", warned);
    expect(warnings).toEqual([]);
  });
});
