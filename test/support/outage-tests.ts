import type { EventStore } from "eventfold-es/testing";
import { expect, test } from "vitest";
import type { Commit, CommitResult, EventDraft, StoredEvent } from "../../src/event-store/event-store.ts";
import { collect } from "./collect.ts";
import type { LossyProxy } from "./lossy-proxy.ts";
import { until } from "./until.ts";

/** Long enough for every outage that a test ends. */
export const PATIENT_MS = 30_000;
/** For outages that a test does not end. */
const IMPATIENT_MS = 300;

/** One store through a proxy, and another on the same events that is not. */
export interface OutageStage {
  readonly proxy: LossyProxy;
  readonly store: EventStore;
  readonly direct: EventStore;
}

/** How to tell a server's messages from each other, and what its store does. */
export interface OutageBackend {
  readonly stage: (patience: number) => Promise<OutageStage>;
  /** Opens a store through a proxy. */
  readonly open: (proxy: LossyProxy, patience: number) => Promise<EventStore>;
  readonly proxy: () => Promise<LossyProxy>;
  /** Whether a piece of an answer says that a commit was carried out. */
  readonly isCommitAnswer: (bytes: Buffer) => boolean;
  readonly isCommitRequest: (bytes: Buffer) => boolean;
  /** Whether reads go to the server. Otherwise only `refresh` does. */
  readonly readsFromServer: boolean;
}

/** What every store on a server does when answers are lost, or when the server is away. */
export function outageTests(backend: OutageBackend): void {
  const { stage, isCommitAnswer, isCommitRequest, readsFromServer } = backend;

  function swallowNextCommit(proxy: LossyProxy, then: () => void = () => {}): void {
    proxy.onAnswer = (bytes) => {
      if (!isCommitAnswer(bytes)) return "forward";
      proxy.onAnswer = () => "forward";
      then();
      return "swallow";
    };
  }

  function loseNextCommit(proxy: LossyProxy, then: () => void = () => {}): void {
    proxy.onRequest = (bytes) => {
      if (!isCommitRequest(bytes)) return "forward";
      proxy.onRequest = () => "forward";
      then();
      return "swallow";
    };
  }

  test("a commit whose answer was lost is found and neither lost nor doubled", async () => {
    const { proxy, store, direct } = await stage(PATIENT_MS);
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
    const { proxy, store, direct } = await stage(PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    loseNextCommit(proxy);
    expect(await store.commit(append("ada", 1, event("B")))).toEqual({ ok: true, position: 2 });
    expect(proxy.lost).toBe(1);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "B"]);
  });

  test("a commit that never arrived conflicts if another process has taken its version meanwhile", async () => {
    const { proxy, store, direct } = await stage(PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    await direct.refresh();
    loseNextCommit(proxy, () => proxy.down());
    const lost = store.commit(append("ada", 1, event("B")));
    await until(() => proxy.lost === 1);
    await direct.commit(append("ada", 1, event("X")));
    proxy.up();
    expect(await lost).toEqual({ ok: false, stream: { type: "account", id: "ada" }, actualVersion: 2 });
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "X"]);
  });

  test("a note whose answer was lost is found too", async () => {
    const { proxy, store, direct } = await stage(PATIENT_MS);
    const note = (expectedSequence: number): Commit => ({
      appends: [],
      consumer: { name: "pm", expectedSequence, note: { expectedSequence } },
    });
    await store.commit(note(0));
    swallowNextCommit(proxy);
    expect((await store.commit(note(1))).ok).toBe(true);
    expect(proxy.lost).toBe(1);
    await direct.refresh();
    expect(await direct.consumerNotes("pm", 0)).toHaveLength(2);
  });

  test("a reading whose answer was lost is read again, without a gap or a double", async () => {
    const { proxy, store, direct } = await stage(PATIENT_MS);
    let answers = 0;
    const unlucky = [2, 5, 9];
    proxy.onAnswer = (bytes) => (bytes.length > 1000 && unlucky.includes(++answers) ? "swallow" : "forward");
    for (let n = 0; n < 5; n++) await direct.commit(append("ada", n * 1000, ...events1000()));
    const positions = (await events(store)).map(({ position }) => position);
    expect(positions).toEqual(Array.from({ length: 5000 }, (_, i) => i + 1));
    expect(proxy.lost).toBeGreaterThan(0);
  });

  test("a connection that is silently dead does not stop the store", async () => {
    const { proxy, store, direct } = await stage(10_000);
    await store.commit(append("ada", 0, event("A")));
    proxy.isSilent = true;
    const committed = store.commit(append("ada", 1, event("B")));
    const refreshed = store.refresh();
    setTimeout(() => (proxy.isSilent = false), 50);
    // Requests that were sent before are lost: only a new connection helps.
    expect(await committed).toEqual({ ok: true, position: 2 });
    await refreshed;
    expect(await store.head()).toBeGreaterThan(0);
    await direct.refresh();
    expect(await direct.head()).toBe(2);
  });

  test("commands wait for a server that is away, and go on by themselves", async () => {
    const { proxy, store, direct } = await stage(PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    const committed = [1, 2, 3].map((version) => store.commit(append("ada", version, event("B"))));
    const read = events(store);
    await new Promise((resolve) => setTimeout(resolve, 100));
    proxy.up();
    expect(await Promise.all(committed)).toEqual([2, 3, 4].map((position) => ({ ok: true, position })));
    expect((await read).length).toBeGreaterThan(0);
    await direct.refresh();
    expect(await direct.head()).toBe(4);
  });

  test("after the store's patience, commits and refreshes fail with STORE_UNAVAILABLE, and work when the server is back", async () => {
    const { proxy, store, direct } = await stage(IMPATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    await until(() =>
      store.refresh().then(
        () => false,
        () => true,
      ),
    );
    const unavailable = { code: "STORE_UNAVAILABLE" };
    await expect(store.commit(append("ada", 1, event("B")))).rejects.toMatchObject(unavailable);
    await expect(store.refresh()).rejects.toMatchObject(unavailable);
    await expect(store.loadCheckpoint("subscription", "s")).rejects.toMatchObject(unavailable);
    if (readsFromServer) {
      await expect(store.head()).rejects.toMatchObject(unavailable);
      await expect(events(store)).rejects.toMatchObject(unavailable);
      await expect(store.loadSnapshot({ type: "account", id: "ada" }, "f")).rejects.toMatchObject(unavailable);
    } else expect((await store.readAll()[Symbol.asyncIterator]().next()).value).toHaveLength(1);
    await store.saveSnapshot({ type: "account", id: "ada" }, { state: 1, version: 1, position: 1, fingerprint: "f" });
    proxy.up();
    await until(() =>
      store.refresh().then(
        () => true,
        () => false,
      ),
    );
    expect(await store.commit(append("ada", 1, event("C")))).toEqual({ ok: true, position: 2 });
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "C"]);
  });

  test("a commit that was sent fails with COMMIT_UNKNOWN, and what rests on it is not written", async () => {
    const { proxy, store, direct } = await stage(IMPATIENT_MS);
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
    const { proxy, store } = await stage(IMPATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    const told: string[] = [];
    store.watchForeign(({ id }) => told.push(id));
    swallowNextCommit(proxy, () => proxy.down());
    await expect(store.commit(append("ada", 1, event("B")))).rejects.toMatchObject({ code: "COMMIT_UNKNOWN" });
    proxy.up();
    await until(() =>
      store.refresh().then(
        () => true,
        () => false,
      ),
    );
    expect(told).toEqual(["ada"]);
  });

  test("a store can be closed while its server is away, and answers what was given before", async () => {
    const { proxy, store } = await stage(PATIENT_MS);
    await store.commit(append("ada", 0, event("A")));
    proxy.down();
    const given = store.commit(append("ada", 1, event("B")));
    const outcome = expect(given).rejects.toMatchObject({ code: /STORE_UNAVAILABLE|COMMIT_UNKNOWN/ });
    await store.close();
    await outcome;
    await expect(store.head()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });

  test("a store cannot be opened while its server is away, and says so", async () => {
    const proxy = await backend.proxy();
    const opening = backend.open(proxy, IMPATIENT_MS);
    await expect(opening).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  });
}

export function event(type: string, eventId = type, data = "null"): EventDraft {
  return { type, data, schemaVersion: 0, timestamp: 1_700_000_000_000, eventId };
}

function events1000(): EventDraft[] {
  return Array.from({ length: 1000 }, () => event("E", "e", JSON.stringify("x".repeat(100))));
}

export function append(id: string, expectedVersion: number, ...drafts: EventDraft[]): Commit {
  return { appends: [{ stream: { type: "account", id }, expectedVersion, events: drafts }] };
}

/** All that is committed by now. */
export async function events(store: EventStore): Promise<StoredEvent[]> {
  await store.refresh();
  return (await collect(store.readAll())).flat();
}

function positionOf(result: CommitResult): number {
  return result.ok ? result.position : -1;
}
