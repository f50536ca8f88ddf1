import type { EventDraft } from "../../../event-store/event-store.ts";
import { equal } from "../expect.ts";
import { ADA, all, append, draft, mustCommit, stream } from "../store-calls.ts";
import { plain, stored } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Every field of an event comes back as it was committed. */
export const fields: readonly Rule[] = [
  {
    name: "events come back field by field",
    async run({ store }) {
      const drafts: EventDraft[] = [
        draft("Plain"),
        {
          type: "Größe_日本",
          data: JSON.stringify({
            text: 'größe\u2028日本🦀\n\t"\\\u0000',
            "k\u00e9y": [1, -1.5e-7, true, null, {}, []],
          }),
          schemaVersion: 3,
          timestamp: 1_795_415_061_123,
          eventId: "1fddda98-1cd4-4942-a243-b43afdad1a2c",
          actor: "Ada “the” 🦀\u0000",
          meta: { correlation_id: "r-1", nested: { ü: [1, { deep: null }] }, ts: 5, data: "x" },
        },
        // Names that a store may use itself, and texts that look like its own.
        draft("Tricky", JSON.stringify({ type: "T", data: { ts: 1, data: 2 }, ts: 3, id: "i", pos: 4, ms: 5, v: 6 })),
        draft("Tricky", JSON.stringify('{"type":"T","data":1,"ts":2,"ms":3,"pos":4}')),
        draft("Tricky", JSON.stringify(['","ts":1', ',"ts":2,"ms":0,"pos":1}', "\\", '\\"'])),
        draft("Tricky", JSON.stringify("\n")),
        ...['""', "0", "-1", "false", "[]", "{}", "1.7976931348623157e308", "[[[[[[[[1]]]]]]]]"].map((data) =>
          draft("Json", data),
        ),
        ...[0, 1, 999, 1000, 1001, 1_795_415_061_000, 253_402_300_799_999].map((timestamp) => ({
          ...draft("Timed"),
          timestamp,
        })),
        { ...draft("Empty"), eventId: "e", actor: "", meta: {} },
      ];
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: drafts }] });
      const expected = drafts.map((event, i) => stored(event, i + 1));
      equal((await stream(store, ADA)).map(plain), expected, "read from the stream");
      equal((await all(store)).map(plain), expected, "read from the store");
      // Fields may be read lazily and in any order.
      for (const event of await stream(store, ADA)) {
        const { meta, data, timestamp, type } = event;
        const { meta: m, data: d, timestamp: t, type: y } = stored(drafts[event.version - 1] ?? draft(""), 0);
        equal({ meta, data, timestamp, type }, { meta: m, data: d, timestamp: t, type: y }, "fields in another order");
      }
    },
  },
  {
    name: "an event without a payload has null as data, and its absent fields are undefined",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const [event] = await stream(store, ADA);
      equal(
        [event?.data, event?.eventId, event?.actor, event?.meta, event?.schemaVersion],
        [null, undefined, undefined, undefined, 0],
        "data, eventId, actor, meta, schemaVersion",
      );
    },
  },
  {
    name: "keys of a payload cannot reach a prototype",
    async run({ store }) {
      const data = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}';
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: [draft("A", data)] }] });
      const [event] = await stream(store, ADA);
      equal(JSON.stringify(event?.data), data, "data");
      equal(({} as { polluted?: number }).polluted, undefined, "the prototype of all objects");
    },
  },
];
