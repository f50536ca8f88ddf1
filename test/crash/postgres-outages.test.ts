import type { EventStore } from "eventfold-es/testing";
import * as net from "node:net";
import pg from "pg";
import { afterEach, expect, onTestFinished, test } from "vitest";
import type { Commit, CommitResult, EventDraft, StoredEvent } from "../../src/event-store/event-store.ts";
import { PostgresEventStore } from "../../src/postgres/postgres-event-store.ts";
import { collect } from "../support/collect.ts";
import { describePostgres, type TestPostgres } from "../support/postgres.ts";
import { PostgresProxy } from "../support/postgres-proxy.ts";
import { until } from "../support/until.ts";

/** Long enough for every outage that a test ends. */
const PATIENT_MS = 30_000;
/** For outages that a test does not end. */
const IMPATIENT_MS = 300;

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

describePostgres("answers that are lost", (postgres) => {
  test("a commit whose answer was lost is found and neither lost nor doubled", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    let answers = 0;
    proxy.onAnswer = (bytes) => (isCommitAnswer(bytes) && ++answers % 5 === 0 ? "swallow" : "forward");
    const acknowledged: { id: string; position: number }[] = [];
    for (let round = 0; round < 30; round++) {
      const results = await Promise.all(
        [0, 1, 2].map((n) => store.commit(append(`s${n}`, round, event("A", `${round}/${n}`)))),
      );
      results.forEach((result, n) => acknowledged.push({ id: `${round}/${n}`, position: positionOf(result) }));
    }
    expect(proxy.lost).toBeGreaterThan(3);
    const found = (await events(direct)).map(({ eventId, position }) => ({ id: eventId, position }));
    expect(found).toEqual(acknowledged);
  });

  test("a commit that never arrived is sent again", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    loseNextCommit(proxy);
    expect(await store.commit(append("ada", 1, event("B")))).toEqual({ ok: true, position: 2 });
    expect(proxy.lost).toBe(1);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "B"]);
  });

  test("a commit that never arrived conflicts if another process has taken its version meanwhile", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    loseNextCommit(proxy, () => proxy.down());
    const lost = store.commit(append("ada", 1, event("B")));
    await until(() => proxy.lost === 1);
    await direct.commit(append("ada", 1, event("X")));
    proxy.up();
    expect(await lost).toEqual({ ok: false, stream: { type: "account", id: "ada" }, actualVersion: 2 });
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "X"]);
  });

  test("a note whose answer was lost is found too", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    const note = (expectedSequence: number): Commit => ({
      appends: [],
      consumer: { name: "pm", expectedSequence, note: { expectedSequence } },
    });
    await store.commit(note(0));
    swallowNextCommit(proxy);
    expect((await store.commit(note(1))).ok).toBe(true);
    expect(proxy.lost).toBe(1);
    expect(await direct.consumerNotes("pm", 0)).toHaveLength(2);
  });

  test("a reading whose answer was lost is read again, without a gap or a double", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    for (let n = 0; n < 5; n++) await direct.commit(append("ada", n * 1000, ...events1000()));
    let answers = 0;
    const unlucky = [2, 5, 9];
    proxy.onAnswer = (bytes) => (bytes.length > 1000 && unlucky.includes(++answers) ? "swallow" : "forward");
    const positions = (await events(store)).map(({ position }) => position);
    expect(positions).toEqual(Array.from({ length: 5000 }, (_, i) => i + 1));
    expect(proxy.lost).toBe(3);
  });

  test("a connection that is silently dead does not stop the store", async () => {
    const { proxy, store, direct } = await stage(postgres, 4000);
    await store.commit(append("ada", 0, event("A")));
    proxy.isSilent = true;
    const committed = store.commit(append("ada", 1, event("B")));
    const read = store.head();
    setTimeout(() => (proxy.isSilent = false), 50);
    // Requests that were sent before are lost: only a new connection helps.
    expect(await committed).toEqual({ ok: true, position: 2 });
    expect(await read).toBeGreaterThan(0);
    expect(await direct.head()).toBe(2);
  });
});

describePostgres("a server that is away", (postgres) => {
  test("commands wait for it and go on by themselves", async () => {
    const { proxy, store, direct } = await stage(postgres, PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    const committed = [1, 2, 3].map((version) => store.commit(append("ada", version, event("B"))));
    const read = events(store);
    await new Promise((resolve) => setTimeout(resolve, 100));
    proxy.up();
    expect(await Promise.all(committed)).toEqual([2, 3, 4].map((position) => ({ ok: true, position })));
    expect((await read).length).toBeGreaterThan(0);
    expect(await direct.head()).toBe(4);
  });

  test("after the store's patience, commits and readings fail with STORE_UNAVAILABLE, and work when it is back", async () => {
    const { proxy, store, direct } = await stage(postgres, IMPATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    await until(() =>
      store.head().then(
        () => false,
        () => true,
      ),
    );
    const unavailable = { code: "STORE_UNAVAILABLE" };
    await expect(store.commit(append("ada", 1, event("B")))).rejects.toMatchObject(unavailable);
    await expect(store.head()).rejects.toMatchObject(unavailable);
    await expect(events(store)).rejects.toMatchObject(unavailable);
    await expect(store.refresh()).rejects.toMatchObject(unavailable);
    await expect(store.loadSnapshot({ type: "account", id: "ada" }, "f")).rejects.toMatchObject(unavailable);
    await store.saveSnapshot({ type: "account", id: "ada" }, { state: 1, version: 1, position: 1, fingerprint: "f" });
    proxy.up();
    expect(await store.commit(append("ada", 1, event("C")))).toEqual({ ok: true, position: 2 });
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "C"]);
  });

  test("a commit that was sent fails with COMMIT_UNKNOWN, and what rests on it is not written", async () => {
    const { proxy, store, direct } = await stage(postgres, IMPATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    swallowNextCommit(proxy, () => proxy.down());
    const chain = { broken: false };
    const first = store.commit({ ...append("ada", 1, event("B")), chain });
    const outcome = expect(first).rejects.toMatchObject({ code: "COMMIT_UNKNOWN" });
    await until(() => proxy.lost === 1);
    const second = store.commit({ ...append("ada", 2, event("C")), chain });
    await outcome;
    proxy.up();
    // Refused, or failed with the first: never written.
    expect(
      await second.then(
        ({ ok }) => ok,
        () => false,
      ),
    ).toBe(false);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "B"]);
  });

  test("a commit of unknown outcome that turns up calls the watchers like a foreign one, because its command has failed", async () => {
    const { proxy, store } = await stage(postgres, IMPATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    const told: string[] = [];
    store.watchForeign(({ id }) => told.push(id));
    swallowNextCommit(proxy, () => proxy.down());
    await expect(store.commit(append("ada", 1, event("B")))).rejects.toMatchObject({ code: "COMMIT_UNKNOWN" });
    proxy.up();
    await store.refresh();
    expect(told).toEqual(["ada"]);
  });

  test("a store can be closed while it is away, and answers what was given before", async () => {
    const { proxy, store } = await stage(postgres, PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    const given = store.commit(append("ada", 1, event("B")));
    const outcome = expect(given).rejects.toMatchObject({ code: /STORE_UNAVAILABLE|COMMIT_UNKNOWN/ });
    await store.close();
    await outcome;
    await expect(store.head()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });

  test("a store cannot be opened, and says so", async () => {
    const proxy = await PostgresProxy.start(postgres.url);
    onTestFinished(() => proxy.stop());
    proxy.down();
    const opening = open(postgres.pool({ connectionString: proxy.url }), postgres.schema(), IMPATIENT_MS);
    await expect(opening).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  });
});

test("a server that says goodbye in the same piece in which it welcomes a connection ends no process", async () => {
  const message = (type: string, body: Buffer): Buffer => {
    const head = Buffer.alloc(5, type);
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  const farewell = Buffer.from("SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
  const welcome = [message("R", Buffer.alloc(4)), message("Z", Buffer.from("I")), message("E", farewell)];
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.concat(welcome)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const pool = new pg.Pool({ connectionString: `postgres://postgres@127.0.0.1:${port}/postgres` });
  await expect(open(pool, "s", IMPATIENT_MS)).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  await pool.end();
  server.close();
});

describePostgres("a commit that the server refuses", (postgres) => {
  const poison = event("Poison", "p", "{");

  test("fails alone, not with the commits of its batch", async () => {
    const { store, direct } = await stage(postgres, PATIENT_MS);
    const commits = Array.from({ length: 20 }, (_, n) =>
      store.commit(append(`s${n}`, 0, n % 7 === 3 ? poison : event("A", `${n}`))),
    );
    const outcomes = await Promise.allSettled(commits);
    const failed = outcomes.flatMap(({ status }, n) => (status === "rejected" ? [n] : []));
    expect(failed).toEqual([3, 10, 17]);
    expect(outcomes[3]).toMatchObject({ reason: { code: "IO_ERROR" } });
    expect((await events(direct)).map(({ position }) => position)).toEqual(Array.from({ length: 17 }, (_, i) => i + 1));
  });

  test("takes with it what rests on it", async () => {
    const { store, direct } = await stage(postgres, PATIENT_MS);
    const chain = { broken: false };
    const outcomes = await Promise.allSettled([
      store.commit({ ...append("ada", 0, event("A")), chain }),
      store.commit({ ...append("ada", 1, poison), chain }),
      store.commit({ ...append("bob", 0, event("B")), chain }),
      store.commit(append("cal", 0, event("C"))),
    ]);
    expect(outcomes.map((each) => each.status === "fulfilled" && each.value.ok)).toEqual([true, false, false, true]);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "C"]);
  });

  test("is refused before it is sent when it is too large", async () => {
    const { store } = await stage(postgres, PATIENT_MS);
    const large = event("Large", "l", JSON.stringify("x".repeat(1 << 20)));
    const [one, tooMany] = await Promise.allSettled([
      store.commit(append("ada", 0, large)),
      store.commit(append("bob", 0, ...Array.from({ length: 65 }, () => large))),
    ]);
    expect(one).toMatchObject({ status: "fulfilled", value: { ok: true } });
    expect(tooMany).toMatchObject({ reason: { code: "INVALID_PAYLOAD" } });
  });
});

interface Stage {
  readonly proxy: PostgresProxy;
  /** Through the proxy. */
  readonly store: EventStore;
  /** The same events, past the proxy. */
  readonly direct: EventStore;
}

async function stage(postgres: TestPostgres, patience: number): Promise<Stage> {
  const proxy = await PostgresProxy.start(postgres.url);
  const schema = postgres.schema();
  const direct = await open(postgres.pool(), schema, PATIENT_MS);
  const store = await open(postgres.pool({ connectionString: proxy.url, max: 4 }), schema, patience);
  closing.push(
    () => proxy.stop(),
    () => direct.close(),
    () => store.close(),
  );
  return { proxy, store, direct };
}

function open(pool: pg.Pool, schema: string, patience: number): Promise<EventStore> {
  return PostgresEventStore.open({ pool, schema, durability: "flush", patience, listens: false });
}

/** `commit_batch` returns an array of numbers, alone in its row. */
function isCommitAnswer(bytes: Buffer): boolean {
  return bytes.includes("{") && bytes.includes("}") && bytes.includes("SELECT 1");
}

function swallowNextCommit(proxy: PostgresProxy, then: () => void = () => {}): void {
  proxy.onAnswer = (bytes) => {
    if (!isCommitAnswer(bytes)) return "forward";
    proxy.onAnswer = () => "forward";
    then();
    return "swallow";
  };
}

function loseNextCommit(proxy: PostgresProxy, then: () => void = () => {}): void {
  proxy.onRequest = (bytes) => {
    if (!bytes.includes('{"account"}')) return "forward";
    proxy.onRequest = () => "forward";
    then();
    return "swallow";
  };
}

function event(type: string, eventId = type, data = "null"): EventDraft {
  return { type, data, schemaVersion: 0, timestamp: 1_700_000_000_000, eventId };
}

function events1000(): EventDraft[] {
  return Array.from({ length: 1000 }, () => event("E", "e", JSON.stringify("x".repeat(100))));
}

function append(id: string, expectedVersion: number, ...drafts: EventDraft[]): Commit {
  return { appends: [{ stream: { type: "account", id }, expectedVersion, events: drafts }] };
}

async function events(store: EventStore): Promise<StoredEvent[]> {
  return (await collect(store.readAll())).flat();
}

function positionOf(result: CommitResult): number {
  return result.ok ? result.position : -1;
}
