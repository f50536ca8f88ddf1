import { equal, refused } from "../expect.ts";
import { ADA, all, append, mustCommit, numbers, stream } from "../store-calls.ts";
import type { Rule } from "../rule.ts";

/** A closed store is finished with its commits, and refuses new calls. */
export const closing: readonly Rule[] = [
  {
    name: "every call of a closed store is refused",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      await store.close();
      await refused("STORE_CLOSED", "commit", () => store.commit(append(ADA, 1, "B")));
      await refused("STORE_CLOSED", "readStream", () => stream(store, ADA));
      await refused("STORE_CLOSED", "readAll", () => all(store));
      await refused("STORE_CLOSED", "listStreams", () => store.listStreams());
      await refused("STORE_CLOSED", "refresh", () => store.refresh());
      await refused("STORE_CLOSED", "head", () => store.head());
    },
  },
  {
    name: "closing waits for earlier commits, and closing twice is closing once",
    async run({ store }) {
      const given = numbers(10).map((n) => store.commit(append(ADA, n - 1, `E${n}`)));
      await Promise.all([store.close(), store.close()]);
      await store.close();
      equal(
        await Promise.all(given),
        numbers(10).map((n) => ({ ok: true, position: n })),
        "results",
      );
    },
  },
];
