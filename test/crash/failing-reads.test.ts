import { AggregateStore, isEventfoldError, projection } from "eventfold-es";
import { type DiskOperation, diskAfterKill, SimulatedDisk } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { Sum } from "../support/crash-stores.ts";
import { oneTo } from "../support/store-files.ts";
import { until } from "../support/until.ts";

const Totals = projection("totals", {} as Record<string, number>).on(Sum, {
  Added: (s, e) => void (s[e.id] = (s[e.id] ?? 0) + e.data.by),
});
const IDS = ["ada", "b/ob", "cyd"];

function openStore(disk: SimulatedDisk) {
  return AggregateStore.builder("/store").aggregate(Sum).projection(Totals).fileSystem(disk.process()).open();
}

type Store = Awaited<ReturnType<typeof openStore>>;

/** A store with snapshots, a checkpoint, and events after both. */
async function filledDisk(): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk({ record: false });
  const store = await openStore(disk);
  for (const by of oneTo(5)) for (const id of IDS) await store.get(Sum, id).execute(Sum.commands.Add({ by: [by, by] }));
  await store.projection(Totals);
  await store.close();
  const second = await openStore(disk);
  for (const id of IDS) await second.get(Sum, id).execute(Sum.commands.Add({ by: [100] }));
  return disk;
}

const TOTAL = 130;
const EVENTS = 11 * IDS.length;

/** Calls that read, or that a read needs. */
const READING = new Set<DiskOperation>(["open", "stat", "readDirectory", "realName", "size", "read"]);

/** Every kind of read, with its expected result. */
const READS: Record<string, { readonly read: (store: Store) => Promise<unknown>; readonly expected: unknown }> = {
  "the state of an instance": {
    read: (store) => store.get(Sum, "ada").state(),
    expected: { total: TOTAL, steps: 11 },
  },
  "an earlier state": {
    read: (store) => store.get(Sum, "b/ob").state({ version: 4 }),
    expected: { total: 6, steps: 4 },
  },
  "a command": {
    read: async (store) => {
      const { state } = await store.get(Sum, "ada").execute(Sum.commands.Add({ by: [] }));
      return state.total;
    },
    expected: TOTAL,
  },
  "the events of an instance": {
    read: async (store) => (await collect(store.readEvents("sum", "b/ob"))).map(({ version }) => version),
    expected: oneTo(11),
  },
  "a projection": {
    read: (store) => store.projection(Totals),
    expected: Object.fromEntries(IDS.map((id) => [id, TOTAL])),
  },
  "a rebuilt projection": {
    read: (store) => store.rebuildProjection(Totals).then(() => store.projection(Totals)),
    expected: Object.fromEntries(IDS.map((id) => [id, TOTAL])),
  },
  "a subscription": {
    read: async (store) => {
      const seen: number[] = [];
      for await (const { position } of store.subscribe({ from: 1 })) if (seen.push(position) === EVENTS) break;
      return seen;
    },
    expected: oneTo(EVENTS),
  },
  "the list of instances": { read: (store) => store.list(Sum), expected: IDS },
  "the list of streams": {
    read: async (store) => (await store.listStreams()).map(({ id }) => id),
    expected: IDS,
  },
};

/** Makes the n-th reading call from now on fail. Returns whether there was one. */
function failRead(disk: SimulatedDisk, n: number, code: string): { readonly stop: () => boolean } {
  let count = 0;
  const stop = disk.failWhen(({ operation }) =>
    READING.has(operation) && count++ === n && (code === "EIO" || operation === "open" || operation === "readDirectory")
      ? { code }
      : undefined,
  );
  return {
    stop: () => {
      stop();
      return count > n;
    },
  };
}

async function outcomeOf<T>(work: Promise<T>): Promise<{ readonly value: T } | { readonly error: unknown }> {
  return work.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

/** After the failure, every result is right, here and after reopening: no wrong result was cached. */
async function expectAllRight(disk: SimulatedDisk, store: Store, where: string): Promise<void> {
  for (const [what, { read, expected }] of Object.entries(READS))
    expect(await read(store), `${what}, after ${where}`).toEqual(expected);
  await store.close();
  const again = await openStore(disk);
  for (const [what, { read, expected }] of Object.entries(READS))
    expect(await read(again), `${what}, after ${where} and a reopening`).toEqual(expected);
  await again.close();
}

describe.each(["EIO", "EMFILE"])("%s at each reading call in turn fails", (code) => {
  for (const [what, { read, expected }] of Object.entries(READS)) {
    test(`${what} fails with a clear error, or succeeds`, async () => {
      const moment = (await filledDisk()).moment();
      let failures = 0;
      for (let n = 0, more = true; more; n++) {
        const disk = diskAfterKill(moment, { record: false });
        const store = await openStore(disk);
        const fault = failRead(disk, n, code);
        const outcome = await outcomeOf(read(store));
        more = fault.stop();
        const where = `${code} at reading call ${n} of ${what}`;
        if ("value" in outcome) expect(outcome.value, where).toEqual(expected);
        else {
          failures++;
          expect(outcome.error, where).toSatisfy((error) => isEventfoldError(error, "IO_ERROR"));
        }
        await expectAllRight(disk, store, where);
      }
      if (code === "EIO") expect(failures).toBeGreaterThan(0);
    });
  }

  test("opening fails with a clear error, or succeeds", async () => {
    const moment = (await filledDisk()).moment();
    let failures = 0;
    for (let n = 0, more = true; more; n++) {
      const disk = diskAfterKill(moment, { record: false });
      const fault = failRead(disk, n, code);
      const outcome = await outcomeOf(openStore(disk));
      more = fault.stop();
      const where = `${code} at reading call ${n} of opening`;
      if ("error" in outcome) {
        failures++;
        expect(outcome.error, where).toSatisfy((error) => isEventfoldError(error, "IO_ERROR"));
      }
      await expectAllRight(disk, "value" in outcome ? outcome.value : await openStore(disk), where);
    }
    expect(failures).toBeGreaterThan(0);
  });
});

test("an instance whose snapshot cannot be made is evicted, and the program goes on", async () => {
  const written = new SimulatedDisk({ record: false });
  const first = await openStore(written);
  for (const id of IDS) await first.get(Sum, id).execute(Sum.commands.Add({ by: [TOTAL] }));
  // A killed process leaves no snapshots.
  const disk = diskAfterKill(written.moment(), { record: false });
  await first.close();
  const builder = AggregateStore.builder("/store").aggregate(Sum).projection(Totals);
  const store = await builder.fileSystem(disk.process()).idleTimeout(20).open();
  for (const id of IDS) await store.get(Sum, id).state();
  const repair = disk.failWhen(({ operation }) => (READING.has(operation) ? { code: "EIO" } : undefined));
  await until(() => IDS.every((id) => !store.get(Sum, id).isAlive()));
  repair();
  expect(await store.projection(Totals)).toEqual(Object.fromEntries(IDS.map((id) => [id, TOTAL])));
  expect((await store.get(Sum, "ada").state()).total).toBe(TOTAL);
  await store.close();
});
