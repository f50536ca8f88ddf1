import type { EventDraft } from "../../../event-store/event-store.ts";
import { equal } from "../expect.ts";
import { ADA, all, append, BOB, draft, mustCommit, stream } from "../store-calls.ts";
import { placed, plain } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Committed events are there after reopening. */
export const durability: readonly Rule[] = [
  {
    name: "committed events are there after reopening, and the next commit continues them",
    needs: "durable",
    async run({ store, reopened }) {
      const event: EventDraft = {
        ...draft("B", '{"ü":"🦀"}'),
        schemaVersion: 2,
        timestamp: 1_795_415_061_123,
        eventId: "e",
        actor: "u",
        meta: { correlation_id: "r" },
      };
      await mustCommit(store, append(ADA, 0, "A"));
      await mustCommit(store, {
        appends: [{ stream: BOB, expectedVersion: 0, events: [event] }, ...append(ADA, 1, "C").appends],
      });
      await store.commit(append(ADA, 0, "X"));
      const before = (await all(store)).map(plain);
      const again = await reopened();
      equal((await all(again)).map(plain), before, "all events");
      equal((await stream(again, BOB)).map(plain), [before[1]], "one stream");
      equal(await again.listStreams(), [ADA, BOB], "streams");
      equal(await again.head(), 3, "head");
      equal(await again.commit(append(ADA, 1, "X")), { ok: false, stream: ADA, actualVersion: 2 }, "a conflict");
      equal(await again.commit(append(ADA, 2, "D")), { ok: true, position: 4 }, "the next commit");
      equal((await all(again)).map(placed), ["A@1:1", "B@1:2", "C@2:3", "D@3:4"], "all events in the end");
    },
  },
];
