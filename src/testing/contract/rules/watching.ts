import { equal } from "../expect.ts";
import { ADA, append, mustCommit } from "../store-calls.ts";
import type { Rule } from "../rule.ts";

/** Watchers are called for commits. */
export const watching: readonly Rule[] = [
  {
    name: "a watcher is called after each commit until it is ended",
    async run({ store }) {
      const heads: Promise<number>[] = [];
      const end = store.watch(() => void heads.push(store.head().catch(() => -1)));
      await mustCommit(store, append(ADA, 0, "A"));
      const first = await Promise.all(heads);
      equal(first.length > 0 && first.every((head) => head === 1), true, "called when the commit can be seen");
      await mustCommit(store, append(ADA, 1, "B"));
      equal((await Promise.all(heads)).at(-1), 2, "head that it saw last");
      const calls = heads.length;
      end();
      await mustCommit(store, append(ADA, 2, "C"));
      equal(heads.length, calls, "calls after it was ended");
    },
  },
  {
    name: "a store's own commits do not call its foreign watchers",
    async run({ store }) {
      let calls = 0;
      const end = store.watchForeign(() => calls++);
      await mustCommit(store, append(ADA, 0, "A"));
      await store.refresh();
      equal(calls, 0, "calls");
      end();
    },
  },
];
