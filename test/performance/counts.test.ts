import { AggregateStore, projection } from "eventfold-es";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { Account } from "../support/account.ts";
import { type Tally, TalliedFileSystem } from "../support/tallied-file-system.ts";
import { copyOf, temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";
import type * as realTimers from "../../src/real-timers.ts";

const time = vi.hoisted(() => {
  let now = (): number => performance.now();
  let isStanding = false;
  return {
    now: () => now(),
    isStanding: () => isStanding,
    stop: () => {
      const moment = performance.now();
      now = () => moment;
      isStanding = true;
    },
    go: () => {
      now = () => performance.now();
      isStanding = false;
    },
  };
});

vi.mock("../../src/real-timers.ts", async (load) => {
  const real = await load<typeof realTimers>();
  const startTimer: typeof real.startTimer = (work, ms, kind) =>
    time.isStanding() ? () => {} : real.startTimer(work, ms, kind);
  return { ...real, startTimer, monotonicNow: time.now };
});

/*
 * Counts that decide the speed and are the same on every machine. A higher count makes the store slower everywhere. If
 * there is a good reason for one, raise the bound here. Each bound is the present count with a little slack.
 */

/** The sum of all balances. */
const Total = projection("total", { total: 0 }).on(Account, {
  Deposited: (state, { data }) => {
    state.total += data.amount;
  },
});

/** Handles no event of these tests. */
const Closed = projection("closed", { count: 0 }).on(Account, { Closed: ({ count }) => ({ count: count + 1 }) });

/** How many read calls it takes to read the log once. */
/** Characters of the checkpoint that says which events are declared, at most. */
const DECLARED = 200;
const READ_AGAIN = 1.1;

const CONTEXT = { actor: "user-1", correlationId: "request-1" };

async function openStore(directory: string, tallied: TalliedFileSystem) {
  return AggregateStore.builder(directory)
    .aggregate(Account)
    .projection(Total)
    .projection(Closed)
    .fileSystem(tallied.fileSystem)
    .open();
}

type Store = Awaited<ReturnType<typeof openStore>>;

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `a-${String(n).padStart(4, "0")}`);
}

function openAll(store: Store, accounts: readonly string[]): Promise<unknown> {
  return Promise.all(
    accounts.map((id) => store.get(Account, id).execute({ type: "Open", data: { owner: "Ada" } }, CONTEXT)),
  );
}

function deposit(store: Store, id: string): Promise<unknown> {
  return store.get(Account, id).execute({ type: "Deposit", data: { amount: 1 } }, CONTEXT);
}

/** Makes a store with so many accounts, and so many deposits in each, and closes it. */
async function fill(
  fileSystem: TalliedFileSystem,
  directory: string,
  accounts: number,
  deposits: number,
): Promise<void> {
  const store = await openStore(directory, fileSystem);
  await openAll(store, ids(accounts));
  for (let n = 0; n < deposits; n++) await Promise.all(ids(accounts).map((id) => deposit(store, id)));
  await store.close();
}

/** `Tally`, and how much text `JSON.parse` was given, in characters: payloads that were looked at, several in one call or not. */
interface Counts extends Tally {
  readonly parsed: number;
}

/** Characters of a payload of `openAll` or `deposit`, with the comma or bracket before it. A command's is copied, an event's is read back. */
const PAYLOAD = 16;

let tallied: TalliedFileSystem;
const parse = vi.spyOn(JSON, "parse");

beforeEach(async () => {
  tallied = await TalliedFileSystem.create();
  // The clock stands still. Work in the background must not be counted by chance; and long work pauses
  // every few milliseconds, so on a slow machine it would pause more often.
  time.stop();
});

afterEach(() => {
  time.go();
});

async function countsOf(work: () => Promise<unknown>): Promise<Counts> {
  parse.mockClear();
  const tally = await tallied.during(work);
  return { ...tally, parsed: parse.mock.calls.reduce((sum, [text]) => sum + text.length, 0) };
}

type Bounds = Readonly<Record<Exclude<keyof Counts, "byName">, number>>;

/** The first reader compares each stream's size with the index: a look at the file, and one at its slot. */
const SEARCH = {
  calls: (streams: number): number => 8 + 2.2 * streams,
  bytesRead: (streams: number): number => 1024 + 250 * streams,
};

function expectAtMost(counts: Counts, bounds: Bounds): void {
  const exceeded = Object.entries(bounds)
    .map(([name, bound]) => ({ name, count: counts[name as keyof Bounds], bound }))
    .filter(({ count, bound }) => count > bound)
    .map(({ name, count, bound }) => `${name}: ${count}, at most ${bound} allowed; ${JSON.stringify(counts.byName)}`);
  expect(exceeded).toEqual([]);
}

/** The bounds of one piece of work for many. */
function each(count: number, bounds: Bounds): Bounds {
  return Object.fromEntries(Object.entries(bounds).map(([name, bound]) => [name, bound * count])) as Bounds;
}

describe("commands", () => {
  test("one after the other take one flush each", async () => {
    const store = await openStore(temporaryDirectory(), tallied);
    await openAll(store, ["ada"]);
    const counts = await countsOf(async () => {
      for (let n = 0; n < 50; n++) await deposit(store, "ada");
    });
    time.go();
    await store.close();
    expectAtMost(
      counts,
      each(50, { calls: 11.7, flushes: 1, bytesWritten: 560, bytesRead: 600, streamsOpened: 0, parsed: 2 * PAYLOAD }),
    );
  });

  test("to 200 instances at the same time share a flush and take a few calls each", async () => {
    const store = await openStore(temporaryDirectory(), tallied);
    await openAll(store, ids(200));
    const counts = await countsOf(() => Promise.all(ids(200).map((id) => deposit(store, id))));
    time.go();
    await store.close();
    expectAtMost(counts, {
      ...each(200, { calls: 4.3, flushes: 0, bytesWritten: 440, bytesRead: 6, streamsOpened: 0, parsed: 2 * PAYLOAD }),
      flushes: 2,
    });
  });

  test("2,000 to one instance at the same time share a flush", async () => {
    const store = await openStore(temporaryDirectory(), tallied);
    await openAll(store, ["ada"]);
    const counts = await countsOf(() => Promise.all(Array.from({ length: 2000 }, () => deposit(store, "ada"))));
    time.go();
    await store.close();
    expectAtMost(counts, {
      ...each(2000, {
        calls: 0.02,
        flushes: 0,
        bytesWritten: 360,
        bytesRead: 1,
        streamsOpened: 0,
        parsed: 2 * PAYLOAD,
      }),
      flushes: 2,
    });
  });

  test("to new instances, one after the other, take one flush each", async () => {
    const store = await openStore(temporaryDirectory(), tallied);
    await openAll(store, ["ada"]);
    const counts = await countsOf(async () => {
      for (const id of ids(20)) await openAll(store, [id]);
    });
    time.go();
    await store.close();
    expectAtMost(
      counts,
      each(20, { calls: 19.2, flushes: 1, bytesWritten: 610, bytesRead: 600, streamsOpened: 1, parsed: 2 * PAYLOAD }),
    );
  });

  test("to 200 new instances at the same time share a flush", async () => {
    const store = await openStore(temporaryDirectory(), tallied);
    await openAll(store, ["ada"]);
    const counts = await countsOf(() => openAll(store, ids(200)));
    time.go();
    await store.close();
    expectAtMost(counts, {
      ...each(200, {
        calls: 8.3,
        flushes: 0,
        bytesWritten: 490,
        bytesRead: 125,
        streamsOpened: 1,
        parsed: 2 * PAYLOAD,
      }),
      flushes: 2,
    });
  });
});

/** A small store, and one whose log takes several reads. */
const SIZES = [
  [10, 10],
  [120, 40],
] as const;

describe.each(SIZES)("with %i streams of %i deposits", (accounts, deposits) => {
  let original: string;

  beforeAll(async () => {
    original = mkdtempSync(join(tmpdir(), "eventfold-es-test-"));
    await fill(await TalliedFileSystem.create(), original, accounts, deposits);
  });

  afterAll(() => rmSync(original, { recursive: true, force: true }));

  function filled(): { readonly directory: string; readonly logBytes: number } {
    const directory = copyOf(original);
    return { directory, logBytes: statSync(`${directory}/commit_log/0000000000000001.jsonl`).size };
  }

  test("opening reads little, whatever the size of the store", async () => {
    const { directory } = filled();
    let store: Store | undefined;
    const counts = await countsOf(async () => (store = await openStore(directory, tallied)));
    time.go();
    await store?.close();
    // Two of them look for a copy that was not completed, one for symbolic links in the directory's path, and one for a compressed segment.
    expectAtMost(counts, { calls: 50, flushes: 1, bytesWritten: 64, bytesRead: 210, streamsOpened: 0, parsed: 0 });
  });

  test("a rebuild reads the log, opens no stream, and parses only handled events", async () => {
    const { directory, logBytes } = filled();
    const store = await openStore(directory, tallied);
    const counts = await countsOf(() => store.rebuildProjection(Total));
    time.go();
    await store.close();
    expectAtMost(counts, {
      // One call for the file's size and two for its parts, for every few hundred events.
      calls: 28 + (accounts * deposits) / 300 + SEARCH.calls(accounts),
      flushes: 0,
      // With up to five samples of how an event was folded.
      bytesWritten: 200 + 5 * 450,
      bytesRead: READ_AGAIN * logBytes + 4096 + SEARCH.bytesRead(accounts),
      streamsOpened: 0,
      parsed: accounts * deposits * PAYLOAD + DECLARED,
    });
  });

  test("events that are not handled are not parsed", async () => {
    const { directory, logBytes } = filled();
    const store = await openStore(directory, tallied);
    const counts = await countsOf(() => store.projection(Closed));
    time.go();
    await store.close();
    expectAtMost(counts, {
      calls: 22 + SEARCH.calls(accounts),
      flushes: 0,
      bytesWritten: 0,
      bytesRead: READ_AGAIN * logBytes + 4096 + SEARCH.bytesRead(accounts),
      streamsOpened: 0,
      parsed: DECLARED,
    });
  });

  test("reading a projection after one event reads that event", async () => {
    const { directory } = filled();
    const store = await openStore(directory, tallied);
    await store.projection(Total);
    await deposit(store, "a-0001");
    const afterOne = await countsOf(() => store.projection(Total));
    const afterNone = await countsOf(() => store.projection(Total));
    time.go();
    await store.close();
    expectAtMost(afterOne, {
      calls: 4,
      flushes: 0,
      bytesWritten: 0,
      bytesRead: 190,
      streamsOpened: 0,
      parsed: PAYLOAD,
    });
    expectAtMost(afterNone, { calls: 1, flushes: 0, bytesWritten: 0, bytesRead: 60, streamsOpened: 0, parsed: 0 });
  });

  test("loading an instance reads only its stream", async () => {
    const { directory } = filled();
    const store = await openStore(directory, tallied);
    const counts = await countsOf(() => store.get(Account, "a-0002").state());
    time.go();
    await store.close();
    expectAtMost(counts, {
      calls: 12,
      flushes: 0,
      bytesWritten: 0,
      bytesRead: 600 + 350 * (deposits + 1),
      streamsOpened: 2,
      parsed: (deposits + 1) * PAYLOAD,
    });
  });
});

test("loading an instance with a snapshot reads the snapshot and the events after it", async () => {
  time.go();
  const directory = temporaryDirectory();
  await fill(tallied, directory, 1, 250);
  time.stop();
  const store = await openStore(directory, tallied);
  const counts = await countsOf(() => store.get(Account, "a-0000").state());
  time.go();
  await store.close();
  // Snapshots are taken every 100 events: 251 leave 51 after the last one. The first load of a type folds three samples again.
  expectAtMost(counts, { calls: 25, flushes: 0, bytesWritten: 0, bytesRead: 25_500, streamsOpened: 4, parsed: 4200 });
});

describe("a process manager", () => {
  const open = (directory: string) =>
    AggregateStore.builder(directory)
      .aggregate(Purse)
      .aggregate(Transfer)
      .processManager(Transfers)
      .processManagerMode("manual")
      .fileSystem(tallied.fileSystem)
      .open();

  type TransferStore = Awaited<ReturnType<typeof open>>;

  async function request(store: TransferStore, from: number, count: number): Promise<void> {
    for (let n = from; n < from + count; n++) {
      const transfer = Transfer.commands.Request({ from: "a", to: "b", amount: 1 });
      await store.get(Transfer, `t${n}`).execute(transfer);
    }
  }

  test.each([5, 100])("reads only what is new, after %i transfers", async (transfers) => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Purse, "a").execute(Purse.commands.Fill({ amount: 1000 }));
    await request(store, 0, transfers);
    await store.runProcessManagers();
    const running = await countsOf(async () => {
      await request(store, transfers, 1);
      await store.runProcessManagers();
    });
    time.go();
    await store.close();
    expect(running.bytesRead).toBeLessThan(10_000);
  });
});
