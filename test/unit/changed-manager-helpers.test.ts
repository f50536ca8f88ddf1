import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { aggregate, AggregateStore, data, type EventStorage, memory, processManager } from "eventfold-es";
import { afterEach, describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** What the reactions below call. A test changes it between two openings, as a new release would. */
const code = {
  weight: 1,
  LEVELS: { high: 10 } as Record<string, number>,
  label: (n: number) => `n${n}`,
  upcast: (n: number) => n,
  random: () => 0,
  rare: 0,
};
const original = { ...code, LEVELS: { ...code.LEVELS } };
afterEach(() => void Object.assign(code, original, { LEVELS: { ...original.LEVELS } }));

const Source = aggregate("source", {
  initial: 0,
  events: {
    Added: data<{ by: number }>(),
    Rare: data(),
    Old: data<{ text: string }>().to<{ n: number }>(({ text }) => ({ n: code.upcast(Number(text)) })),
  },
  commands: { Add: data<{ by: number }>(), MakeRare: data() },
}).define({
  handle: { Add: ({ data: d, emit }) => emit.Added(d), MakeRare: ({ emit }) => emit.Rare() },
  apply: { Added: (n, { by }) => n + by, Rare: (n) => n, Old: (n) => n },
});
const Target = aggregate("target", {
  initial: 0,
  events: { Told: data<{ total: number; label: string }>() },
  commands: { Tell: data<{ total: number; label: string }>() },
}).define({ handle: { Tell: ({ data: d, emit }) => emit.Told(d) }, apply: { Told: (n) => n + 1 } });

/** Tells the total after each tenth event, and again an hour later. */
const teller = (options: { readonly version?: string } = {}) =>
  processManager("teller", { dispatches: [Target], initial: () => ({ total: 0, seen: 0, rare: 0 }), ...options }).on(
    Source,
    {
      Added: (state, { data: { by } }) => {
        const high = by >= (code.LEVELS["high"] ?? 0) ? 1 : 0;
        const total = state.total + by * code.weight + high + code.random();
        const seen = state.seen + 1;
        return {
          state: { ...state, total, seen },
          ...(seen % 10 === 0
            ? {
                dispatch: Target.at("t").Tell({ total, label: code.label(seen) }),
                schedule: [{ in: "1h", dispatch: Target.at("late").Tell({ total, label: code.label(seen) }) }],
              }
            : {}),
        };
      },
      Rare: (state) => ({ state: { ...state, rare: state.rare + 1 + code.rare } }),
    },
  );

const storages = [
  { backend: "on disk", storage: (): string | EventStorage => temporaryDirectory() },
  { backend: "in memory", storage: (): string | EventStorage => memory() },
] as const;

let now = 0;
const open = (place: string | EventStorage, manager = teller()) =>
  AggregateStore.builder(place as string)
    .aggregate(Source)
    .aggregate(Target)
    .processManager(manager)
    .processManagerMode("manual")
    .clock(() => now)
    .open();
type Store = Awaited<ReturnType<typeof open>>;

interface Told {
  readonly kind: string;
  readonly name: string;
  readonly event?: string;
  readonly isRepeatable?: boolean;
  readonly problem?: string;
}

async function published(name: string, work: () => Promise<unknown>): Promise<Told[]> {
  const told: Told[] = [];
  const listener = (message: unknown): void => void told.push(message as Told);
  subscribe(`eventfold-es:${name}`, listener);
  try {
    await work();
  } finally {
    unsubscribe(`eventfold-es:${name}`, listener);
  }
  return told;
}

async function add(store: Store, count: number, by = 1): Promise<void> {
  for (let i = 0; i < count; i++) await store.dispatch(Source.at("s").Add({ by }));
}

const totals = async (store: Store, id = "t"): Promise<number[]> =>
  (await collect(store.get(Target, id).events())).map(({ data: { total } }) => total);

/** 15 events, of which the tenth has caused a command and a scheduled one. */
async function filled(place: string | EventStorage, manager = teller()): Promise<void> {
  await using store = await open(place, manager);
  await add(store, 14);
  await store.dispatch(Source.at("s").MakeRare());
  await add(store, 1, 12);
  expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
}

describe.each(storages)("a helper of a reaction that changes between two openings, $backend", ({ storage }) => {
  test.each<[string, () => void, number, string]>([
    ["a constant", () => (code.weight = 100), 20 * 100 + 11 + 1, "source.Added"],
    ["a table", () => (code.LEVELS = { high: 1 }), 20 + 11 + 20, "source.Added"],
  ])("%s: the state is made anew, and nothing is sent twice", async (_, change, total, event) => {
    const place = storage();
    await filled(place);
    change();
    const told = await published("stale-cache", async () => {
      await using store = await open(place);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      await add(store, 5);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
      const expected = code.weight === 100 ? 100 * 31 + 1 : total;
      expect(await totals(store)).toEqual([10, expected]);
    });
    expect(told).toEqual([{ kind: "process-manager", name: "teller", event, isRepeatable: true }]);
    // The checkpoint of the new code is used.
    const again = await published("stale-cache", async () => {
      now += 2 * 3_600_000;
      await using store = await open(place);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
      expect(await totals(store, "late")).toEqual([10, expect.any(Number)]);
      await add(store, 10);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    });
    expect(again).toEqual([]);
  });

  test("the helper of a rare event is noticed, too", async () => {
    const place = storage();
    await filled(place);
    code.rare = 5;
    const told = await published("stale-cache", async () => {
      await using store = await open(place);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    });
    expect(told).toMatchObject([{ kind: "process-manager", event: "source.Rare", isRepeatable: true }]);
  });

  test("what changes commands alone leaves the state as it is", async () => {
    const place = storage();
    await filled(place);
    code.label = (n) => `number ${n}`;
    const told = await published("stale-cache", async () => {
      await using store = await open(place);
      await add(store, 5);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    });
    expect(told).toEqual([]);
  });

  test("a version does not hide it", async () => {
    const place = storage();
    await filled(place, teller({ version: "1" }));
    code.weight = 2;
    const told = await published("stale-cache", async () => {
      await using store = await open(place, teller({ version: "1" }));
      await store.runProcessManagers();
    });
    expect(told).toMatchObject([{ kind: "process-manager", name: "teller" }]);
  });

  test("reactions that are not deterministic are said to be so, and send nothing twice", async () => {
    const place = storage();
    let n = 0;
    code.random = () => n++;
    await filled(place).catch(() => {});
    const told = await published("stale-cache", async () => {
      for (let i = 0; i < 2; i++) {
        await using store = await open(place);
        expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
        expect(await totals(store)).toHaveLength(1);
      }
    });
    expect(told[0]).toMatchObject({ kind: "process-manager", isRepeatable: false });
  });

  test("a state that JSON cannot hold is not cached, and said so once", async () => {
    const shared = { n: 0 };
    for (const state of [() => 1n, () => new Map(), () => ({ a: shared, b: shared })]) {
      const place = storage();
      const Keeper = processManager("keeper", { dispatches: [Target], initial: state as () => unknown }).on(Source, {
        Added: (kept) => ({ state: kept, dispatch: Target.at("t").Tell({ total: 1, label: "" }) }),
      });
      const told = await published("uncached-state", async () => {
        await using store = await open(place, Keeper as never);
        await add(store, 20);
        expect(await store.runProcessManagers()).toEqual({ dispatched: 20, deadLettered: 0 });
      });
      expect(told).toMatchObject([
        { kind: "process-manager", name: "keeper", problem: expect.stringContaining("state") },
      ]);
      await using store = await open(place, Keeper as never);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    }
  });
});

test("the initial state of a process manager is checked like that of a projection", () => {
  class Cart {
    items = [];
  }
  for (const initial of [new Cart(), { now: () => 1 }, Symbol("x"), Object.create(null)])
    expect(() => processManager("bad", { dispatches: [Target], initial })).toThrow(
      expect.objectContaining({ code: "INVALID_DEFINITION" }),
    );
  expect(() => processManager("good", { dispatches: [Target], initial: () => new Cart() })).not.toThrow();
});
