import * as fs from "node:fs";
import * as path from "node:path";
import type { EventStore } from "eventfold-es/testing";
import { AggregateStore } from "eventfold-es";
import type { NatsConnection } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import type { Commit } from "../../../src/event-store/event-store.ts";
import { JetStreamEventStore } from "../../../src/jetstream/jetstream-event-store.ts";
import { describeNats, type TestNats } from "../../support/nats.ts";
import { append, event, events } from "../../support/outage-tests.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

interface Stage {
  readonly connection: NatsConnection;
  readonly name: string;
  readonly directory: string;
  readonly open: (patience?: number) => Promise<EventStore>;
}

async function stage(nats: TestNats): Promise<Stage> {
  const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
  const open = (patience = 10_000) => JetStreamEventStore.open({ connection, name, directory, patience });
  return { connection, name, directory, open };
}

const note = (expectedSequence: number): Commit => ({
  appends: [],
  consumer: { name: "pm", expectedSequence, note: { n: expectedSequence } },
});

/** Commits with events and notes, a message each. */
async function fill(store: EventStore, from: number, count: number): Promise<void> {
  for (let n = from; n < from + count; n++) {
    expect((await store.commit(append("ada", n, event("A", `${n}`)))).ok).toBe(true);
    expect((await store.commit(note(n))).ok).toBe(true);
  }
}

async function check(store: EventStore, count: number): Promise<void> {
  expect((await events(store)).map(({ eventId }) => eventId)).toEqual(Array.from({ length: count }, (_, n) => `${n}`));
  expect(await store.consumerNotes("pm", 0)).toHaveLength(count);
  await fill(store, count, 1);
}

describeNats("a replica", (nats) => {
  test("that has missed messages while its process was away gets them when it comes back", async () => {
    const { connection, name, directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 3);
    await store.close();
    const elsewhere = await JetStreamEventStore.open({
      connection,
      name,
      directory: temporaryDirectory(),
      patience: 10_000,
    });
    await fill(elsewhere, 3, 200);
    const size = fs.statSync(path.join(directory, "1/commit_log")).size;
    const again = await open();
    await check(again, 203);
    await again.close();
    await elsewhere.close();
    expect(size).toBeGreaterThan(0);
    expect(fs.readdirSync(directory).sort()).toEqual(["1", "1.json", "1.lock"]);
  });

  test("is a store in a directory, which opens without JetStream", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 5);
    await store.close();
    await using files = await AggregateStore.builder(path.join(directory, "1")).readOnly().open();
    expect(await files.head()).toBe(5);
  });

  test("whose directory was lost is made again", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 50);
    await store.close();
    for (const lost of ["1.json", "1", ""]) {
      fs.rmSync(path.join(directory, lost), { recursive: true });
      const again = await open();
      const head = await again.head();
      await check(again, head);
      await again.close();
    }
  });

  test("has a directory for each store that is open, and a store that is opened again finds its own", async () => {
    const { directory, open } = await stage(nats);
    const stores = [await open(), await open()];
    expect(fs.readdirSync(directory).filter((entry) => !entry.includes("."))).toEqual(["1", "2"]);
    await stores[0]?.close();
    const third = await open();
    expect(fs.readdirSync(directory).filter((entry) => !entry.includes("."))).toEqual(["1", "2"]);
    await third.close();
    await stores[1]?.close();
  });

  for (const [what, younger, older] of [
    ["is older than its place, as after a power cut,", "1.json", "1"],
    ["is newer than its place, as after a crash,", "1", "1.json"],
  ] as const) {
    test(`that ${what} is right after opening`, async () => {
      const { directory, open } = await stage(nats);
      const store = await open();
      await fill(store, 0, 10);
      await store.close();
      const old = path.join(temporaryDirectory(), "old");
      fs.cpSync(directory, old, { recursive: true });
      const next = await open();
      await fill(next, 10, 10);
      await next.close();
      fs.rmSync(path.join(directory, older), { recursive: true });
      fs.cpSync(path.join(old, older), path.join(directory, older), { recursive: true });
      expect(fs.existsSync(path.join(directory, younger))).toBe(true);
      // A place that was kept by a crashed process does not say that the store was closed.
      const place = path.join(directory, "1.json");
      fs.writeFileSync(place, fs.readFileSync(place, "utf8").replace('"closed":true', '"closed":false'));
      const again = await open();
      await check(again, 20);
      await again.close();
    });
  }

  test("that lacks only a note of those that its place counts is right after opening", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 5);
    expect((await store.commit(append("ada", 5, event("A", "5")))).ok).toBe(true);
    await store.close();
    const old = path.join(temporaryDirectory(), "old");
    fs.cpSync(path.join(directory, "1"), old, { recursive: true });
    const next = await open();
    expect((await next.commit(note(5))).ok).toBe(true);
    await next.close();
    fs.rmSync(path.join(directory, "1"), { recursive: true });
    fs.cpSync(old, path.join(directory, "1"), { recursive: true });
    const place = path.join(directory, "1.json");
    fs.writeFileSync(place, fs.readFileSync(place, "utf8").replace('"closed":true', '"closed":false'));
    const again = await open();
    await check(again, 6);
    await again.close();
  });

  test("whose place is damaged is compared from the beginning", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 5);
    await store.close();
    for (const text of ["", "{", "null", "[]", '{"sequence":1}']) {
      fs.writeFileSync(path.join(directory, "1.json"), text);
      const again = await open();
      await check(again, await again.head());
      await again.close();
    }
  });

  test("whose directory is removed while it is used gets no commit that readers miss, and the next store has all", async () => {
    const { directory, open } = await stage(nats);
    const store = await open(500);
    await fill(store, 0, 3);
    fs.rmSync(directory, { recursive: true });
    const written = await store.commit(append("ada", 3, event("A", "3"))).then(
      () => "written",
      ({ code }: { readonly code: string }) => code,
    );
    expect(written).toMatch(/^(COMMIT_UNKNOWN|STORE_REPLACED)$/);
    await store.close().catch(() => {});
    const again = await open();
    const found = await events(again);
    expect(found.length).toBe(written === "COMMIT_UNKNOWN" ? 4 : 3);
    await again.close();
  });
});

describeNats("a replica that has diverged", (nats) => {
  async function stopped(opening: Promise<EventStore>, message: RegExp): Promise<void> {
    await expect(opening).rejects.toMatchObject({ code: "REPLICA_DIVERGED", message });
  }

  test("because its stream was deleted and made again is not opened", async () => {
    const { connection, name, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 3);
    await store.close();
    await connection.request(`$JS.API.STREAM.DELETE.${name}`, "", { timeout: 5000 });
    await stopped(open(), /the stream ends with message 0/);
    const elsewhere = { connection, name, directory: temporaryDirectory(), patience: 10_000 };
    const other = await JetStreamEventStore.open(elsewhere);
    await fill(other, 0, 3);
    await other.close();
    await stopped(open(), /and that of the stream is/);
  });

  test("because the stream has lost messages is not opened", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 3);
    await store.close();
    const place = path.join(directory, "1.json");
    fs.writeFileSync(place, fs.readFileSync(place, "utf8").replace('"sequence":6', '"sequence":8'));
    await stopped(open(), /the stream ends with message 6/);
  });

  test("because the stream has another message is not opened", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 3);
    await store.close();
    const place = path.join(directory, "1.json");
    fs.writeFileSync(place, fs.readFileSync(place, "utf8").replace(/"batch":"......../, '"batch":"00000000'));
    await stopped(open(), /message 6 is the batch 00000000/);
  });

  test("because something else has written to its directory is not opened", async () => {
    const { directory, open } = await stage(nats);
    const store = await open();
    await fill(store, 0, 3);
    await store.close();
    const { openFileEventStore } = await import("../../../src/file-store/open-store.ts");
    const { openNodeFileSystem } = await import("../../../src/fs/node-file-system.ts");
    const files = await openFileEventStore(await openNodeFileSystem(), path.join(directory, "1"));
    await files.commit(append("eve", 0, event("X")));
    await files.close();
    await stopped(open(), /it has 4 events/);
  });

  test("because its stream is deleted and made again while it is used stops", async () => {
    const { connection, name, open } = await stage(nats);
    const store = await open(1000);
    await fill(store, 0, 3);
    for (const stream of [name, `${name}_checkpoints`, `${name}_keys`])
      await connection.request(`$JS.API.STREAM.DELETE.${stream}`, "", { timeout: 5000 });
    await expect(store.commit(append("ada", 3, event("B")))).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    const elsewhere = { connection, name, directory: temporaryDirectory(), patience: 10_000 };
    const other = await JetStreamEventStore.open(elsewhere);
    const diverged = { code: "REPLICA_DIVERGED" };
    await expect(store.commit(append("ada", 3, event("B")))).rejects.toMatchObject(diverged);
    await fill(other, 0, 5);
    await expect(store.refresh()).rejects.toMatchObject(diverged);
    expect((await events(other)).length).toBe(5);
    await other.close();
    await store.close();
  });

  const foreign: readonly (readonly [what: string, text: (last: string) => string, message: RegExp])[] = [
    ["a foreign text", () => "hello", /message 7 is no batch/],
    ["an empty message", () => "", /message 7 is no batch/],
    [
      "a batch that follows another one",
      () => '{"batch":"b","after":"x","position":3,"commits":0}',
      /follows the batch x/,
    ],
    [
      "a batch with another position",
      (last) => `{"batch":"b","after":"${last}","position":9,"commits":0}`,
      /follows position 9, and the last one here is 3/,
    ],
    [
      "a commit that does not fit",
      (last) =>
        `{"batch":"b","after":"${last}","position":3,"commits":1}\n{"streams":[["account","ada",7,1]]}\n{"type":"A","time":1}\nnull`,
      /does not fit/,
    ],
  ];
  test.each(foreign)("because the stream got %s stops, for readers and writers", async (_, text, message) => {
    const { connection, name, directory, open } = await stage(nats);
    const store = await open(2000);
    await fill(store, 0, 3);
    const last = connection.request(`$JS.API.STREAM.MSG.GET.${name}`, '{"seq":6}', { timeout: 5000 });
    const stored = (await last).json<{ readonly message: { readonly data: string } }>().message.data;
    const { batch } = JSON.parse(Buffer.from(stored, "base64").toString().split("\n")[0] ?? "") as {
      readonly batch: string;
    };
    let told = 0;
    store.watch(() => told++);
    await connection.request(`eventfold.${name}.commits`, text(batch), { timeout: 5000 });
    const diverged = { code: "REPLICA_DIVERGED", message: expect.stringMatching(message) as string };
    await expect(store.refresh()).rejects.toMatchObject(diverged);
    await expect(store.commit(append("ada", 3, event("B")))).rejects.toMatchObject(diverged);
    await expect(store.head()).rejects.toMatchObject(diverged);
    await expect(events(store)).rejects.toMatchObject(diverged);
    await expect(store.loadCheckpoint("projection", "p")).rejects.toMatchObject(diverged);
    // Readers that wait are woken, and meet the error.
    expect(told).toBeGreaterThan(0);
    await store.close();
    await expect(open()).rejects.toMatchObject({ code: "REPLICA_DIVERGED" });
    expect(fs.existsSync(path.join(directory, "1"))).toBe(true);
  });
});
