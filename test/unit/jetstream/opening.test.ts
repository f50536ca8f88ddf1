import { aggregate, AggregateStore, data } from "eventfold-es";
import { jetStream } from "eventfold-es/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { describe, expect, onTestFinished, test } from "vitest";
import { describeNats, describePrivateNats } from "../../support/nats.ts";
import { NatsCluster } from "../../support/nats-server.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

const Counter = aggregate("counter", {
  initial: { sum: 0 },
  events: { Added: data<{ by: number }>() },
  commands: { Add: data<{ by: number }>() },
}).define({
  handle: { Add: ({ data: { by }, emit }) => emit.Added({ by }) },
  apply: { Added: ({ sum }, { by }) => ({ sum: sum + by }) },
});

async function api<T>(connection: NatsConnection, what: string, body: object = {}): Promise<T> {
  const answer = await connection.request(`$JS.API.${what}`, JSON.stringify(body), { timeout: 5000 });
  return answer.json<T>();
}

describeNats("a store in JetStream that is opened", (nats) => {
  test("makes a stream that keeps everything", async () => {
    const [connection, name] = [await nats.connect(), nats.name()];
    await using _ = await AggregateStore.open(jetStream({ connection, name, directory: temporaryDirectory() }));
    const { config } = await api<{ readonly config: object }>(connection, `STREAM.INFO.${name}`);
    expect(config).toMatchObject({
      ...{ name, subjects: [`eventfold.${name}.commits`], storage: "file", retention: "limits", discard: "new" },
      ...{ num_replicas: 1, max_msgs: -1, max_bytes: -1, max_age: 0, deny_delete: true, deny_purge: true },
    });
  });

  test("is there for two processes that open it at the same time", async () => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    const open = () => AggregateStore.builder(jetStream({ connection, name, directory })).aggregate(Counter).open();
    const stores = await Promise.all([open(), open(), open()]);
    for (const store of stores) await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    for (const store of stores) expect(await store.get(Counter, "a").state()).toEqual({ sum: 3 });
    for (const store of stores) await store.close();
  });

  test("keeps several stores apart that one server has", async () => {
    const connection = await nats.connect();
    for (const name of [nats.name(), nats.name()]) {
      const storage = jetStream({ connection, name, directory: temporaryDirectory() });
      await using store = await AggregateStore.builder(storage).aggregate(Counter).open();
      expect((await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }))).position).toBe(1);
    }
  });

  const wrong: readonly (readonly [what: string, change: object, message: RegExp])[] = [
    ["in memory", { storage: "memory" }, /storage "file", found "memory"/],
    ["that forgets by age", { max_age: 60e9 }, /max_age 0, found 60000000000/],
    ["that forgets by number", { max_msgs: 1000 }, /max_msgs -1, found 1000/],
    ["that drops the oldest message when it is full", { discard: "old" }, /discard "new", found "old"/],
    ["from which messages can be deleted", { deny_delete: false }, /deny_delete true, found false/],
    ["that can be purged", { deny_purge: false }, /deny_purge true, found false/],
    [
      "that one message can replace",
      { deny_purge: false, allow_rollup_hdrs: true },
      /allow_rollup_hdrs false, found true/,
    ],
    ["that is a queue", { retention: "workqueue" }, /retention "limits", found "workqueue"/],
    ["that does not acknowledge", { no_ack: true }, /no_ack false, found true/],
    ["with foreign subjects", { subjects: ["orders.>"] }, /subjects \["eventfold/],
  ];
  test.each(wrong)("refuses a stream %s", async (_, change, message) => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    const good = { storage: "file", discard: "new", deny_delete: true, deny_purge: true };
    const body = { name, subjects: [`eventfold.${name}.commits`], num_replicas: 1, ...good, ...change };
    const made = await api<{ readonly error?: unknown }>(connection, `STREAM.CREATE.${name}`, body);
    expect(made.error).toBeUndefined();
    await expect(AggregateStore.open(jetStream({ connection, name, directory }))).rejects.toMatchObject({
      code: "UNSUPPORTED_FORMAT",
      message: expect.stringMatching(message) as string,
    });
    await api(connection, `STREAM.DELETE.${name}`);
  });

  test("refuses a stream with another number of replicas than the options say", async () => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    await (await AggregateStore.open(jetStream({ connection, name, directory }))).close();
    const other = AggregateStore.open(jetStream({ connection, name, directory, replicas: 3 }));
    await expect(other).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT", message: /num_replicas 3, found 1/ });
    const tooMany = AggregateStore.open(jetStream({ connection, name: nats.name(), directory, replicas: 3 }));
    await expect(tooMany).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /cluster of at least 3 servers/ });
  });

  test("refuses a server that is too old", async () => {
    const real = await nats.connect();
    for (const version of ["2.9.10", "2.10.22", "1.99.99"]) {
      const connection = Object.create(real, { info: { get: () => ({ ...real.info, version }) } }) as NatsConnection;
      const opening = AggregateStore.open(
        jetStream({ connection, name: nats.name(), directory: temporaryDirectory() }),
      );
      await expect(opening).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT", message: /2\.10\.23 or later, found/ });
    }
  });

  test("refuses to reclaim, because its stream keeps all messages", async () => {
    const storage = jetStream({ connection: await nats.connect(), name: nats.name(), directory: temporaryDirectory() });
    await using store = await AggregateStore.open(storage);
    const message = expect.stringContaining("whose stream keeps all messages") as string;
    await expect(store.reclaim()).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message });
  });

  test("copies its replica with the positions of subscriptions, and without keys", async () => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    await using store = await AggregateStore.builder(jetStream({ connection, name, directory }))
      .aggregate(Counter)
      .open();
    for (const by of [1, 2]) await store.get(Counter, "a").execute(Counter.commands.Add({ by }));
    const seen: number[] = [];
    const subscription = store.subscribe({ name: "mailer" }, ({ position }) => void seen.push(position));
    await store.idle();
    await subscription.close();
    const copy = `${temporaryDirectory()}/copy`;
    await expect(store.backup(copy, { keys: true })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect((await store.backup(copy)).position).toBe(2);
    await store.get(Counter, "a").execute(Counter.commands.Add({ by: 3 }));
    expect((await store.backup(copy, { incremental: true })).position).toBe(3);
    await using files = await AggregateStore.builder(copy).aggregate(Counter).open();
    expect(await files.get(Counter, "a").state()).toEqual({ sum: 6 });
    const again: number[] = [];
    files.subscribe({ name: "mailer" }, ({ position }) => void again.push(position));
    await files.idle();
    expect([seen, again]).toEqual([[1, 2], [3]]);
  });

  test("lets a named subscription go on in a process with a new replica", async () => {
    const [connection, name] = [await nats.connect(), nats.name()];
    const seen: number[] = [];
    for (const by of [1, 2]) {
      const storage = jetStream({ connection, name, directory: temporaryDirectory() });
      await using store = await AggregateStore.builder(storage).aggregate(Counter).open();
      await store.get(Counter, "a").execute(Counter.commands.Add({ by }));
      const subscription = store.subscribe({ name: "mailer" }, ({ position }) => void seen.push(position));
      await store.idle();
      await subscription.close();
    }
    expect(seen).toEqual([1, 2]);
  });

  test("for reading only writes nothing to the stream, follows it, and does not make it", async () => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    const storage = jetStream({ connection, name, directory });
    const reading = () => AggregateStore.builder(storage).aggregate(Counter).readOnly().open();
    await expect(reading()).rejects.toMatchObject({ code: "STORE_NOT_FOUND" });
    await using writer = await AggregateStore.builder(storage).aggregate(Counter).open();
    await using reader = await reading();
    await writer.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    expect(await reader.get(Counter, "a").state()).toEqual({ sum: 1 });
    const command = reader.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    await expect(command).rejects.toMatchObject({ code: "READ_ONLY" });
    expect(await writer.head()).toBe(1);
  });

  test("waits for a stream's room, and says that there is none", async () => {
    const [connection, name, directory] = [await nats.connect(), nats.name(), temporaryDirectory()];
    const storage = jetStream({ connection, name, directory });
    await using store = await AggregateStore.builder(storage).aggregate(Counter).open();
    const counter = store.get(Counter, "a");
    await counter.execute(Counter.commands.Add({ by: 1 }));
    const { config } = await api<{ readonly config: object }>(connection, `STREAM.INFO.${name}`);
    await api(connection, `STREAM.UPDATE.${name}`, { ...config, max_bytes: 600 });
    const full = async (): Promise<void> => {
      for (;;) await counter.execute(Counter.commands.Add({ by: 1 }));
    };
    await expect(full()).rejects.toMatchObject({ code: "DISK_FULL" });
    const { sum } = await counter.state();
    await api(connection, `STREAM.UPDATE.${name}`, { ...config, max_bytes: -1 });
    expect((await counter.execute(Counter.commands.Add({ by: 1 }))).state).toEqual({ sum: sum + 1 });
  });
});

describeNats("a store in JetStream without JetStream", (nats) => {
  test("says that no JetStream answers", async () => {
    const connection = await nats.connect();
    const deaf = Object.create(connection, {
      request: {
        value: () => Promise.reject(Object.assign(new Error("no responders"), { name: "NoRespondersError" })),
      },
    }) as NatsConnection;
    const storage = jetStream({ connection: deaf, name: nats.name(), directory: temporaryDirectory(), timeout: 200 });
    await expect(AggregateStore.open(storage)).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      message: /no responders/,
    });
  });

  test("says that the connection is closed for good", async () => {
    const connection = await nats.connect();
    await connection.close();
    const storage = jetStream({ connection, name: nats.name(), directory: temporaryDirectory(), timeout: 200 });
    await expect(AggregateStore.open(storage)).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      message: /maxReconnectAttempts/,
    });
  });
});

describePrivateNats("a server that does not let a store in", () => {
  test("because it has no JetStream gets a clear error", async () => {
    const cluster = await NatsCluster.create({ withoutJetStream: true });
    onTestFinished(() => cluster.remove());
    const connection = await cluster.connect();
    onTestFinished(() => connection.close());
    const storage = jetStream({ connection, name: "bank", directory: temporaryDirectory(), timeout: 200 });
    await expect(AggregateStore.open(storage)).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      message: /no responders/,
    });
  });

  test("to its stream gets a clear error", async () => {
    const user = '{ user: "u", password: "p", permissions: { publish: { deny: "eventfold.>" } } }';
    const cluster = await NatsCluster.create({
      settings: `authorization { users: [ ${user}, { user: "r", password: "p" } ] }`,
      user: "r",
    });
    onTestFinished(() => cluster.remove());
    const connection = await cluster.connect({ user: "u", pass: "p" });
    onTestFinished(() => connection.close());
    const storage = jetStream({ connection, name: "bank", directory: temporaryDirectory() });
    await using store = await AggregateStore.builder(storage).aggregate(Counter).open();
    const command = store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    await expect(command).rejects.toMatchObject({ code: "IO_ERROR", message: /ermission/ });
  });
});

describe("options of jetStream()", () => {
  const connection = { request: () => {} } as never;
  const bad: readonly (readonly [what: string, options: object, message: RegExp])[] = [
    ["no connection", { name: "bank" }, /found none/],
    ["a name with a dot", { connection, name: "a.b" }, /found "a\.b"/],
    ["an empty name", { connection, name: "" }, /found ""/],
    ["two replicas", { connection, name: "bank", replicas: 2 }, /found 2/],
    ["no patience", { connection, name: "bank", timeout: -1 }, /timeout/],
  ];
  test.each(bad)("with %s are refused", (_, options, message) => {
    expect(() => jetStream(options as never)).toThrow(message);
  });

  test("do not take the directory of a store", async () => {
    const directory = temporaryDirectory();
    await (await AggregateStore.open(directory)).close();
    const found = import("../../../src/file-store/open-replica.ts").then(({ openReplica }) => openReplica(directory));
    await expect(found).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /found the store/ });
  });
});
