import { equal } from "../expect.ts";
import { ADA, append, BOB, keepSnapshot, mustCommit, SNAPSHOT, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Snapshots are a cache: a store may lose one, but returns only a right one. */
export const snapshots: readonly Rule[] = [
  {
    name: "a snapshot is loaded only with the fingerprint that saved it",
    async run({ store }) {
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot of a stream that does not exist");
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await mustCommit(store, append(BOB, 0, "C"));
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot before there is one");
      await keepSnapshot(store, ADA, SNAPSHOT);
      const { state, version, position, fingerprint } = (await store.loadSnapshot(ADA, "f1")) ?? {};
      equal({ state, version, position, fingerprint }, SNAPSHOT, "snapshot");
      equal(await store.loadSnapshot(ADA, "f2"), undefined, "snapshot for other code");
      equal(await store.loadSnapshot(BOB, "f1"), undefined, "snapshot of another stream");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2"], "events after loading a snapshot");
    },
  },
  {
    name: "a new snapshot replaces the old one",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keepSnapshot(store, ADA, SNAPSHOT);
      await mustCommit(store, append(ADA, 2, "C"));
      equal((await store.loadSnapshot(ADA, "f1"))?.version, 2, "version of the older snapshot");
      await keepSnapshot(store, ADA, { state: 7, version: 3, position: 3, fingerprint: "f2" });
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "old snapshot");
      const loaded = await store.loadSnapshot(ADA, "f2");
      equal([loaded?.state, loaded?.version, loaded?.position], [7, 3, 3], "new snapshot");
      equal((await stream(store, ADA, 4)).map(placed), [], "events after the snapshot");
      await mustCommit(store, append(ADA, 3, "D"));
      equal((await stream(store, ADA, 4)).map(placed), ["D@4:4"], "events after the snapshot, later");
    },
  },
  {
    name: "a snapshot is there after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keepSnapshot(store, ADA, SNAPSHOT);
      const snapshot = await (await reopened()).loadSnapshot(ADA, "f1");
      equal([snapshot?.state, snapshot?.version], [SNAPSHOT.state, 2], "snapshot");
    },
  },
];
