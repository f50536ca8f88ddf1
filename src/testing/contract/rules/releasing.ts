import { equal } from "../expect.ts";
import { ADA, append, BOB, mustCommit, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Releasing a stream frees memory and changes no result. */
export const releasing: readonly Rule[] = [
  {
    name: "a released stream reads and commits as before",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      store.release(ADA);
      store.release(BOB);
      equal((await stream(store, ADA, 2)).map(placed), ["B@2:2"], "read after the release");
      store.release(ADA);
      equal(await store.commit(append(ADA, 1, "X")), { ok: false, stream: ADA, actualVersion: 2 }, "a conflict");
      store.release(ADA);
      equal(await store.commit(append(ADA, 2, "C")), { ok: true, position: 3 }, "commit after the release");
      const committed = store.commit(append(ADA, 3, "D"));
      store.release(ADA);
      equal(await committed, { ok: true, position: 4 }, "commit that was under way");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2", "C@3:3", "D@4:4"], "events");
    },
  },
];
