import { eventStoreContract, type EventStore } from "eventfold-es/testing";
import { afterAll, beforeAll, test } from "vitest";
import type { NatsConnection } from "@nats-io/transport-node";
// The store has no public name of its own: users get it through AggregateStore.
import { JetStreamEventStore, type JetStreamEventStoreOptions } from "../../src/jetstream/jetstream-event-store.ts";
import { describePrivateNats } from "../support/nats.ts";
import { NatsCluster } from "../support/nats-server.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

for (const replicas of [1, 3]) {
  describePrivateNats(`the store in JetStream, ${replicas === 1 ? "one server" : "three servers"}`, () => {
    const opened = new WeakMap<EventStore, JetStreamEventStoreOptions>();
    let cluster: NatsCluster | undefined;
    let connection: NatsConnection | undefined;
    let count = 0;
    beforeAll(async () => {
      cluster = await NatsCluster.create({ size: replicas, flushes: false });
      connection = await cluster.connect();
    });
    afterAll(async () => {
      await connection?.close();
      cluster?.remove();
    });
    const open = async (options: JetStreamEventStoreOptions | undefined): Promise<EventStore> => {
      if (options === undefined) throw new Error("this store was not made here");
      const store = await JetStreamEventStore.open(options);
      opened.set(store, options);
      return store;
    };
    const create = (): Promise<EventStore> => {
      if (connection === undefined) throw new Error("there is no connection");
      return open({
        connection,
        name: `contract_${count++}`,
        directory: temporaryDirectory(),
        replicas,
        patience: 10_000,
      });
    };
    const reopen = (store: EventStore): Promise<EventStore> => open(opened.get(store));
    eventStoreContract({ test, create, reopen, capabilities: { durable: true, multiProcess: true } });
  });
}
