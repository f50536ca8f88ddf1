import { equal } from "../expect.ts";
import { ADA, append, mustCommit } from "../store-calls.ts";
import type { Rule } from "../rule.ts";

/** Checkpoints of consumers, each replaced as a whole. */
export const checkpoints: readonly Rule[] = [
  {
    name: "checkpoints are kept by kind and name",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      equal(await store.loadCheckpoint("projection", "p"), undefined, "before there is one");
      const checkpoint = (position: number) => ({ state: { n: position, s: "ü" }, position, fingerprint: "f" });
      await store.saveCheckpoint("projection", "p", checkpoint(2));
      await store.saveCheckpoint("projection", "q", checkpoint(1));
      await store.saveCheckpoint("subscription", "p", checkpoint(0));
      await store.saveCheckpoint("projection", "q", checkpoint(2));
      const loaded = async (kind: "projection" | "subscription" | "process-manager", name: string) => {
        const { state, position, fingerprint } = (await store.loadCheckpoint(kind, name)) ?? {};
        return { state, position, fingerprint };
      };
      equal(await loaded("projection", "p"), checkpoint(2), "first");
      equal(await loaded("projection", "q"), checkpoint(2), "replaced");
      equal(await loaded("subscription", "p"), checkpoint(0), "of another kind");
      equal(await store.loadCheckpoint("process-manager", "p"), undefined, "of a kind that has none");
      equal(await store.listCheckpoints("projection"), ["p", "q"], "names");
      equal(await store.listCheckpoints("subscription"), ["p"], "names of another kind");
      equal(await store.listCheckpoints("process-manager"), [], "names of a kind that has none");
    },
  },
  {
    name: "a checkpoint is there after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await store.saveCheckpoint("projection", "p", { state: [1], position: 2, fingerprint: "f" });
      const again = await reopened();
      const checkpoint = await again.loadCheckpoint("projection", "p");
      equal([checkpoint?.state, checkpoint?.position], [[1], 2], "checkpoint");
    },
  },
];
