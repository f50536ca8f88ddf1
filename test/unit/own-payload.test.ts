import { aggregate, AggregateStore, data } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Its handlers emit their own payload, changed or not; its folds keep it or change it. */
const Basket = aggregate("basket", {
  initial: { items: [] as readonly number[], seen: [] as unknown[] },
  events: {
    Kept: data<Record<string, unknown>>(),
    Turned: data<{ items: number[] }>(),
    Sorted: data<{ items: number[] }>(),
  },
  commands: {
    Change: data<{ at: unknown; to: string }>(),
    Twice: data<{ items: number[] }>(),
    Turn: data<{ items: number[] }>(),
    Sort: data<{ items: number[] }>(),
  },
}).define({
  handle: {
    Change: ({ data: own, emit }) => {
      if (own.to === "date") own.at = new Date(String(own.at));
      if (own.to === "-0") own.at = Number(own.at) * -1;
      if (own.to === "NaN") own.at = Number.NaN;
      if (own.to === "map") own.at = new Map([[1, 2]]);
      if (own.to === "undefined") (own as { more?: unknown }).more = undefined;
      return emit.Kept(own);
    },
    Twice: ({ data: own, emit }) => [emit.Turned(own), emit.Turned(own)],
    Turn: ({ data: own, emit }) => emit.Turned(own),
    Sort: ({ data: own, emit }) => {
      own.items.sort((a, b) => a - b);
      return emit.Sorted(own);
    },
  },
  apply: {
    Kept: (state, event) => ({ ...state, seen: [event] }),
    Turned: (state, { items }) => ({ ...state, items: items.reverse() }),
    Sorted: (state, { items }) => ({ ...state, items }),
  },
});

const { Change, Twice, Turn, Sort } = Basket.commands;

describe.each(backends)("a command's own payload as an event's $backend", ({ builder }) => {
  test.each([
    ["date", "2026-01-02T03:04:05.678Z"],
    ["NaN", null],
    ["map", {}],
  ])("is refused when handle has made something of it that is no JSON (%s)", async (to, at) => {
    await using store = await builder().aggregate(Basket).open();
    await expect(store.get(Basket, "a").execute(Change({ at, to }))).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
  });

  test.each([
    ["-0", 0],
    ["undefined", 1],
  ])("is what will be read back when handle has changed it (%s)", async (to, at) => {
    await using store = await builder().aggregate(Basket).open();
    const { state, version } = await store.get(Basket, "a").execute(Change({ at, to }));
    expect(state).toStrictEqual(await store.get(Basket, "a").state({ version }));
  });

  test("is a separate value for each event", async () => {
    await using store = await builder().aggregate(Basket).open();
    await store.get(Basket, "a").execute(Twice({ items: [1, 2, 3] }));
    const events = await collect(store.get(Basket, "a").events());
    expect(events.map(({ data }) => data)).toEqual([{ items: [1, 2, 3] }, { items: [1, 2, 3] }]);
  });
});

describe("a command that is decided again", () => {
  async function withConflict(command: ReturnType<typeof Turn> | ReturnType<typeof Sort>) {
    const directory = temporaryDirectory();
    await using here = await AggregateStore.builder(directory).aggregate(Basket).open();
    await using there = await AggregateStore.builder(directory).aggregate(Basket).open();
    await here.get(Basket, "a").execute(Sort({ items: [0] }));
    await there.get(Basket, "a").execute(Sort({ items: [0] }));
    const { events, version } = await here.get(Basket, "a").execute(command);
    expect(version).toBe(3);
    return (await collect(here.get(Basket, "a").events({ from: version }))).map((event) => [event.data, events.length]);
  }

  test("gets the payload that the caller passed, whatever a fold has done to it", async () => {
    expect(await withConflict(Turn({ items: [1, 2, 3] }))).toEqual([[{ items: [1, 2, 3] }, 1]]);
  });

  test("gets a payload that it may change, although a state holds it", async () => {
    expect(await withConflict(Sort({ items: [1, 2, 3] }))).toEqual([[{ items: [1, 2, 3] }, 1]]);
  });
});
