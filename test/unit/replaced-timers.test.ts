import { mock } from "node:test";
import { AggregateStore } from "eventfold-es";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { EXPECTED, type Library, wholeProgram } from "../support/whole-program.ts";

const EVERYTHING = [
  "setTimeout",
  "clearTimeout",
  "setInterval",
  "clearInterval",
  "setImmediate",
  "clearImmediate",
  "queueMicrotask",
  "hrtime",
  "performance",
  "Date",
] as const;

/**
 * A `nextTick` with the mark of Jest's fakes. It drops the calls of the library's own code only: under Jest, a program sees a `process` of
 * its own. Node.js calls the global one for each message that arrives. If it dropped those, Vitest would wait for this worker for ever.
 */
const fakeNextTick = Object.assign(
  (callback: (...values: readonly unknown[]) => void, ...values: readonly unknown[]): void => {
    const caller = new Error().stack?.split("\n")[2] ?? "";
    if (!caller.includes("/src/")) nextTick(callback, ...values);
  },
  { clock: {} },
);

/** A way to replace the timers, and to move the clock that takes their place. */
interface Replacement {
  readonly name: string;
  readonly replace: () => void;
  readonly restore: () => void;
  /** Sets the faked `Date` forward without firing timers. */
  readonly passTime?: (ms: number) => void;
}

const originals = { ...globalThis };
const { nextTick } = process;

const replacements: readonly Replacement[] = [
  {
    name: "Vitest's fakes, as they are by default",
    replace: () => vi.useFakeTimers(),
    restore: () => vi.useRealTimers(),
    passTime: (ms) => vi.setSystemTime(Date.now() + ms),
  },
  {
    name: "fakes of everything, as Jest has them by default",
    replace: () => {
      vi.useFakeTimers({ toFake: [...EVERYTHING] });
      process.nextTick = fakeNextTick;
    },
    restore: () => {
      process.nextTick = nextTick;
      vi.useRealTimers();
    },
    passTime: (ms) => vi.setSystemTime(Date.now() + ms),
  },
  {
    name: "the mocks of node:test",
    replace: () => mock.timers.enable({ apis: ["setTimeout", "setInterval", "setImmediate", "Date"], now: 1e12 }),
    restore: () => mock.timers.reset(),
    passTime: (ms) => mock.timers.setTime(Date.now() + ms),
  },
  {
    name: "functions made by hand, that never call back",
    replace: () =>
      Object.assign(globalThis, {
        setTimeout: () => 1.5 as unknown,
        setImmediate: () => ({}),
        clearTimeout: () => {},
        clearImmediate: () => {},
      }),
    restore: () => {
      const { setTimeout, setImmediate, clearTimeout, clearImmediate } = originals;
      Object.assign(globalThis, { setTimeout, setImmediate, clearTimeout, clearImmediate });
    },
  },
];

/** The library, loaded anew. */
async function freshLibrary(): Promise<Library> {
  vi.resetModules();
  return (await import("eventfold-es")) as unknown as Library;
}

describe.each(replacements)("with $name", ({ replace, restore, passTime }) => {
  afterEach(() => restore());

  test("a store opens, works, waits, tries again and closes when the timers were replaced after the import", async () => {
    const library = await freshLibrary();
    replace();
    expect(await wholeProgram(library, temporaryDirectory(), passTime)).toMatchObject(EXPECTED);
  });

  test("and when they were replaced before it", async () => {
    replace();
    expect(await wholeProgram(await freshLibrary(), temporaryDirectory(), passTime)).toMatchObject(EXPECTED);
  });

  test("and when they were replaced while it was open, and given back while it still is", async () => {
    const library = await freshLibrary();
    const store = await library.AggregateStore.builder(temporaryDirectory()).aggregate(Counter).open();
    replace();
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    restore();
    await store.dispatch(Counter.at("a").Add({ by: 2 }));
    expect(await store.get(Counter, "a").state()).toBe(3);
    await store.close();
  });
});

describe("a faked Date", () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test("dates what is committed from then on, and no longer when it is given back", async () => {
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Counter).open();
    const time = async () => (await store.dispatch(Counter.at("a").Add({ by: 1 }))).events[0]?.timestamp ?? 0;
    const before = await time();
    vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2040, 0, 1) });
    expect(await time()).toBe(Date.UTC(2040, 0, 1));
    vi.setSystemTime(Date.UTC(2041, 0, 1));
    expect(await time()).toBe(Date.UTC(2041, 0, 1));
    vi.useRealTimers();
    expect(await time()).toBeLessThan(Date.UTC(2040, 0, 1));
    expect(before).toBeLessThan(Date.UTC(2040, 0, 1));
  });

  test("is what handle sees as now, also in a store in memory", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2040, 0, 1) });
    const { aggregate, AggregateStore: Store, data, memory } = await freshLibrary();
    const Clock = aggregate("clock", {
      initial: 0,
      events: { Read: data<{ at: number }>() },
      commands: { Read: data() },
    }).define({
      handle: { Read: ({ now, emit }) => emit.Read({ at: now.getTime() }) },
      apply: { Read: (_, { at }) => at },
    });
    await using store = await Store.builder(memory()).aggregate(Clock).open();
    vi.setSystemTime(Date.UTC(2042, 0, 1));
    expect((await store.dispatch(Clock.at("c").Read())).state).toBe(Date.UTC(2042, 0, 1));
  });
});
