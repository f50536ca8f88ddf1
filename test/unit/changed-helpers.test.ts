import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { type Aggregate, aggregate, AggregateStore, data, memory, projection } from "eventfold-es";
import { afterEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** What the definitions below call. A test changes it between two openings, as a new release would. */
const code = { factor: 1, rare: 0, keep: (n: number) => n, random: () => 0 };
const original = { ...code };
afterEach(() => void Object.assign(code, original));

const contract = aggregate("sum", {
  initial: { n: 0, rare: 0 },
  events: { Added: data<{ by: number }>(), Rare: data(), Old: data<{ text: string }>().to<{ n: number }>(upcast) },
  commands: { Add: data<{ by: number }>(), MakeRare: data(), MakeOld: data() },
});
function upcast({ text }: { text: string }): { n: number } {
  return { n: code.keep(Number(text)) };
}
const define = (version?: string) =>
  contract.define({
    ...(version === undefined ? {} : { version }),
    snapshotEvery: 5,
    handle: {
      Add: ({ data, emit }) => emit.Added(data),
      MakeRare: ({ emit }) => emit.Rare(),
      MakeOld: ({ emit }) => emit.Old({ n: 1 }),
    },
    apply: {
      Added: (s, { by }) => ({ ...s, n: s.n + code.keep(by) * code.factor + code.random() }),
      Rare: (s) => ({ ...s, rare: s.rare + 1 + code.rare }),
      Old: (s, { n }) => ({ ...s, n: s.n + n }),
    },
  });
const Sum = define();
type SumAggregate = typeof Sum;

const Total = (version?: string) =>
  projection("total", () => ({ n: 0, rare: 0, ids: [] as string[] }), version === undefined ? {} : { version }).on(
    Sum,
    {
      Added: (s, e) => {
        s.n += e.data.by * code.factor + code.random();
        s.ids.push(e.id);
      },
      Rare: (s) => void (s.rare += 1 + code.rare),
    },
  );

interface Told {
  readonly kind: string;
  readonly name: string;
  readonly event?: string;
  readonly isRepeatable?: boolean;
}

/** Runs `work` and returns what was published on a channel. */
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

const storages = [
  { backend: "on disk", storage: () => temporaryDirectory() },
  { backend: "in memory", storage: () => memory() },
] as const;

describe.each(storages)("a helper that changes between two openings, $backend", ({ storage }) => {
  /** A store with 12 events of each of two instances, snapshots, and a checkpoint of the projection. */
  async function filled(Definition: SumAggregate = Sum, P = Total()): Promise<string | ReturnType<typeof memory>> {
    const place = storage();
    await using store = await AggregateStore.builder(place).aggregate(Definition).projection(P).open();
    for (const id of ["a", "b"]) {
      for (let by = 1; by <= 10; by++) await store.get(Definition, id).execute({ type: "Add", data: { by } });
      await store.get(Definition, id).execute({ type: "MakeRare" });
      for (let by = 1; by <= 6; by++) await store.get(Definition, id).execute({ type: "Add", data: { by } });
    }
    await store.projection(P);
    return place;
  }

  const reopened = async <T>(
    place: string | ReturnType<typeof memory>,
    read: (store: AggregateStore<Aggregate<"sum", unknown, never, never, never>>) => Promise<T>,
    Definition: SumAggregate = Sum,
  ): Promise<T> => {
    await using store = await AggregateStore.builder(place).aggregate(Definition).open();
    return await read(store as never);
  };

  test.each<[string, () => void]>([
    ["a constant", () => (code.factor = 2)],
    ["a function", () => (code.keep = (n) => n + 1)],
    ["the helper of a rare event", () => (code.rare = 100)],
  ])("%s: a state is the same with and without snapshots", async (_, change) => {
    const place = await filled();
    change();
    const told = await published("stale-cache", async () => {
      for (const id of ["a", "b"]) {
        const [now, folded] = await reopened(place, async (store) => {
          const instance = store.get(Sum as never, id);
          return [await instance.state(), await instance.state({ version: 17 })];
        });
        expect(now).toEqual(folded);
      }
    });
    expect(told).toMatchObject([{ kind: "snapshots", name: "sum", isRepeatable: true }, {}]);
  });

  test.each<[string, unknown, unknown]>([
    ["undefined and a key that is not there", {}, { x: undefined }],
    ["NaN and null", { x: null }, { x: Number.NaN }],
    ["a date and its text", { x: "1970-01-01T00:00:00.000Z" }, { x: new Date(0) }],
    ["-0 and 0", { x: 0 }, { x: -0 }],
    ["an array with a hole and one with null", { x: [null] }, { x: Array(1) }],
  ])("%s are two states, though their JSON is the same", async (_, before, after) => {
    const place = storage();
    const made = { value: before };
    const Kept = projection("kept", () => ({ value: undefined as unknown })).on(Sum, {
      Added: () => ({ value: made.value }),
    });
    const read = async (): Promise<unknown> => {
      await using store = await AggregateStore.builder(place).aggregate(Sum).projection(Kept).open();
      if ((await store.head()) === 0) await store.dispatch(Sum.at("a").Add({ by: 1 }));
      return (await store.projection(Kept)).value;
    };
    await read();
    made.value = after;
    const told = await published("stale-cache", async () => expect(await read()).toStrictEqual(after));
    expect(told).toMatchObject([{ kind: "projection", name: "kept" }]);
  });

  test("without a change, snapshots are used and nothing is published", async () => {
    const place = await filled();
    const told = await published("stale-cache", () =>
      reopened(place, async (store) => {
        const loads = await published("no-such-channel", () => store.get(Sum as never, "a").state());
        expect(loads).toEqual([]);
      }),
    );
    expect(told).toEqual([]);
    const snapshots: number[] = [];
    const listener = (message: unknown): void =>
      void snapshots.push((message as { snapshotVersion: number }).snapshotVersion);
    subscribe("tracing:eventfold-es:load:asyncEnd", listener);
    await reopened(place, (store) => store.get(Sum as never, "b").state());
    unsubscribe("tracing:eventfold-es:load:asyncEnd", listener);
    expect(snapshots[0]).toBeGreaterThanOrEqual(10);
  });

  test("a decision is made on the state of the present code", async () => {
    const place = await filled();
    code.factor = 3;
    const outcome = await reopened(place, (store) =>
      store.get(Sum as never, "a").execute({ type: "Add", data: { by: 1 } } as never),
    );
    expect(outcome.state).toEqual({ n: (55 + 21 + 1) * 3, rare: 1 });
  });

  test("new snapshots of the present code are used again", async () => {
    const place = await filled();
    code.factor = 2;
    await reopened(place, async (store) => {
      for (let i = 0; i < 6; i++) await store.get(Sum as never, "a").execute({ type: "Add", data: { by: 1 } } as never);
    });
    const told = await published("stale-cache", async () => {
      const state = await reopened(place, (store) => store.get(Sum as never, "a").state());
      expect(state).toEqual({ n: (55 + 21 + 6) * 2, rare: 1 });
    });
    expect(told).toEqual([]);
  });

  test("a change back does not bring old snapshots back", async () => {
    const place = await filled();
    code.factor = 2;
    await reopened(place, (store) => store.get(Sum as never, "a").state());
    await reopened(place, async (store) => {
      for (let i = 0; i < 6; i++) await store.get(Sum as never, "a").execute({ type: "Add", data: { by: 1 } } as never);
    });
    code.factor = 1;
    const states = await reopened(place, async (store) => [
      await store.get(Sum as never, "a").state(),
      await store.get(Sum as never, "b").state(),
    ]);
    expect(states).toEqual([
      { n: 55 + 21 + 6, rare: 1 },
      { n: 76, rare: 1 },
    ]);
  });

  test.each<[string, () => void]>([
    ["a constant", () => (code.factor = 2)],
    ["the helper of a rare event", () => (code.rare = 100)],
  ])("%s: a projection is folded again", async (_, change) => {
    const place = await filled();
    change();
    const P = Total();
    const told = await published("stale-cache", async () => {
      const state = await reopened(place, (store) => store.projection(P as never));
      expect(state).toMatchObject({ n: 2 * 76 * code.factor, rare: 2 * (1 + code.rare) });
    });
    expect(told).toMatchObject([{ kind: "projection", name: "total", isRepeatable: true }]);
  });

  test("a projection that did not change goes on from its checkpoint", async () => {
    const place = await filled();
    const P = Total();
    const events: number[] = [];
    const listener = (message: unknown): void => void events.push((message as { events: number }).events);
    subscribe("tracing:eventfold-es:project:asyncEnd", listener);
    await reopened(place, (store) => store.projection(P as never));
    unsubscribe("tracing:eventfold-es:project:asyncEnd", listener);
    // The checkpoint's last event is read again, to recognise it.
    expect(events.reduce((sum, n) => sum + n, 0)).toBeLessThan(3);
  });

  test("a fold that is not deterministic is reported, and not cached", async () => {
    let n = 0;
    code.random = () => ++n;
    const told = await published("uncached-state", () => filled());
    expect(told).toMatchObject([{ kind: "snapshots", name: "sum" }]);
    const stale = await published("stale-cache", async () => {
      const P = Total();
      await filled(Sum, P).then((place) => reopened(place, (store) => store.projection(P as never)));
    });
    expect(stale).toMatchObject([{ kind: "projection", name: "total", isRepeatable: false }]);
  });

  test("dropSnapshots makes all snapshots of an aggregate stale", async () => {
    const place = await filled();
    await reopened(place, (store) => store.dropSnapshots(Sum as never));
    const versions: number[] = [];
    const listener = (message: unknown): void =>
      void versions.push((message as { snapshotVersion: number }).snapshotVersion);
    subscribe("tracing:eventfold-es:load:asyncEnd", listener);
    await reopened(place, async (store) => {
      await store.get(Sum as never, "a").state();
      await store.get(Sum as never, "b").state();
    });
    unsubscribe("tracing:eventfold-es:load:asyncEnd", listener);
    expect(versions).toEqual([0, 0]);
  });

  test("with a version, another text of the functions does not matter; with another version, it does", async () => {
    const loadsOf = async (place: string | ReturnType<typeof memory>, D: SumAggregate): Promise<number[]> => {
      const versions: number[] = [];
      const listener = (message: unknown): void =>
        void versions.push((message as { snapshotVersion: number }).snapshotVersion);
      subscribe("tracing:eventfold-es:load:asyncEnd", listener);
      await reopened(place, (store) => store.get(D as never, "a").state(), D);
      unsubscribe("tracing:eventfold-es:load:asyncEnd", listener);
      return versions;
    };
    const place = await filled(define("1"), Total("1"));
    const { handle, apply } = Sum.behaviour;
    const minified = contract.define({
      version: "1",
      snapshotEvery: 5,
      handle,
      // prettier-ignore
      apply: { ...apply, Added: (a, b) => ({ ...a, n: a.n + code.keep(b.by) * code.factor }) },
    });
    expect((await loadsOf(place, minified))[0]).toBeGreaterThanOrEqual(10);
    expect(await loadsOf(place, define("2"))).toEqual([0]);
  });
});
