import { randomBytes, randomUUID } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import type { NatsConnection } from "@nats-io/transport-node";
import { expect, onTestFinished, test } from "vitest";
import type { SubjectKey, SubjectKeys } from "../../../src/event-store/subject-keys.ts";
import { JetStreamEventStore } from "../../../src/jetstream/jetstream-event-store.ts";
import { describeNats, describePrivateNats } from "../../support/nats.ts";
import { NatsCluster } from "../../support/nats-server.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

const create = (): SubjectKey => ({ id: randomUUID(), key: new Uint8Array(randomBytes(32)) });

async function keysOf(connection: NatsConnection, name: string): Promise<SubjectKeys> {
  const store = await JetStreamEventStore.open({ connection, name, directory: temporaryDirectory(), patience: 10_000 });
  onTestFinished(() => store.close());
  return store.keys;
}

describeNats("the keys of personal fields in JetStream", (nats) => {
  test("are the same for processes that ask for them at the same time", async () => {
    const [connection, name] = [await nats.connect(), nats.name()];
    const places = [await keysOf(connection, name), await keysOf(connection, name), await keysOf(connection, name)];
    const subjects = Array.from({ length: 20 }, (_, n) => `person ${n % 7}`);
    const found = await Promise.all(places.map((place) => place.obtain(subjects, create)));
    for (const each of found) expect([...each]).toEqual([...(found[0] ?? [])]);
    expect(found[0]?.size).toBe(7);
    expect(await places[0]?.count()).toBe(7);
  });

  test("are found by any name of a person, and by their ids", async () => {
    const keys = await keysOf(await nats.connect(), nats.name());
    const subjects = ["", ".", "a.b", "*", ">", " ", "größe-日本-🦀", "\u0000", "x".repeat(20_000), "__proto__"];
    const made = await keys.obtain(subjects, create);
    for (const subject of subjects) expect(await keys.find(subject)).toEqual(made.get(subject));
    const ids = [...made.values()].map(({ id }) => id);
    expect(new Set((await keys.withIds([...ids, "unknown", "*"])).keys())).toEqual(new Set(ids));
    expect(await keys.find("a")).toBeUndefined();
  });

  test("are destroyed once, and a person gets a new one", async () => {
    const keys = await keysOf(await nats.connect(), nats.name());
    const first = (await keys.obtain(["ada", "bob"], create)).get("ada");
    const ids = [first?.id ?? "", "unknown"];
    await Promise.all([keys.destroy(ids), keys.destroy(ids)]);
    expect(await keys.find("ada")).toBeUndefined();
    expect((await keys.withIds(ids)).size).toBe(0);
    expect(await keys.count()).toBe(1);
    const second = (await keys.obtain(["ada"], create)).get("ada");
    expect(second?.id).not.toBe(first?.id);
  });
});

describePrivateNats("a destroyed key", () => {
  test("is no longer in the files of the server", async () => {
    const cluster = await NatsCluster.create();
    onTestFinished(() => cluster.remove());
    const connection = await cluster.connect();
    onTestFinished(() => connection.close());
    const keys = await keysOf(connection, "bank");
    const [ada, bob] = [...(await keys.obtain(["c-ada-77", "c-bob-78"], create)).values()];
    const isStored = (key: SubjectKey | undefined): boolean =>
      bytesOf(path.join(cluster.directory, "0")).includes(Buffer.from(key?.key ?? []).toString("hex"));
    expect([isStored(ada), isStored(bob)]).toEqual([true, true]);
    await keys.destroy([ada?.id ?? ""]);
    expect([isStored(ada), isStored(bob)]).toEqual([false, true]);
    expect(bytesOf(path.join(cluster.directory, "0"))).not.toContain("c-ada-77");
  });
});

function bytesOf(directory: string): string {
  const entries = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => fs.readFileSync(path.join(entry.parentPath, entry.name), "latin1")).join("\n");
}
