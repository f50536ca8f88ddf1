import { isEventfoldError } from "../../../errors.ts";
import { equal } from "../expect.ts";
import { all, append, draft, mustCommit, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

const STRANGE_IDS: readonly string[] = [
  "..",
  ".",
  "../ada",
  "/ada",
  "ada/",
  "ada/bob",
  "ada\\bob",
  "C:",
  "%",
  "%ada",
  "%61da",
  "%2e%2e",
  "ada.",
  "ada ",
  " ada",
  "con",
  "nul.txt",
  "-",
  "*",
  '"',
  "\u0000",
  "\n",
  "größe-日本-🦀",
  "e\u0301",
  "\u00e9",
  "__proto__",
  "constructor",
];

/** Which stream names there are, and how streams are listed. */
export const names: readonly Rule[] = [
  {
    name: "streams are listed in the order of their code points",
    async run({ store }) {
      const ids = ["b", "a", "aa", "a b", "Z", "ä", "1", "10", "2", "\u{1F980}", "\uFFFD", "日"];
      const sorted = ["1", "10", "2", "Z", "a", "a b", "aa", "b", "ä", "日", "\uFFFD", "\u{1F980}"];
      await mustCommit(store, append({ type: "zebra", id: "1" }, 0, "A"));
      for (const id of ids) await mustCommit(store, append({ type: "order", id }, 0, "A"));
      await mustCommit(store, append({ type: "ord", id: "1" }, 0, "A"));
      equal(
        await store.listStreams("order"),
        sorted.map((id) => ({ type: "order", id })),
        "streams of one type",
      );
      equal(
        (await store.listStreams()).map(({ type, id }) => `${type} ${id}`),
        ["ord 1", ...sorted.map((id) => `order ${id}`), "zebra 1"],
        "all streams",
      );
      equal(await store.listStreams("or"), [], "streams of a type that does not exist");
    },
  },
  {
    name: "an id may be any text, and no two ids share a stream",
    async run({ store }) {
      for (const id of STRANGE_IDS) {
        store.checkName({ type: "account", id });
        const event = draft("A", JSON.stringify(id));
        await mustCommit(store, {
          appends: [{ stream: { type: "account", id }, expectedVersion: 0, events: [event] }],
        });
      }
      for (const id of STRANGE_IDS) {
        const events = await stream(store, { type: "account", id });
        equal(
          events.map(({ data, stream: name }) => [data, name]),
          [[id, { type: "account", id }]],
          `events of ${JSON.stringify(id)}`,
        );
      }
      equal(
        (await all(store)).map((event) => event.stream.id),
        STRANGE_IDS,
        "ids of all events",
      );
      equal(
        new Set((await store.listStreams("account")).map(({ id }) => id)).size,
        STRANGE_IDS.length,
        "number of streams",
      );
    },
  },
  {
    name: "ids that differ only in case are two streams, or the second is refused",
    async run({ store }) {
      await mustCommit(store, append({ type: "account", id: "Ada" }, 0, "A"));
      let refused = false;
      try {
        await mustCommit(store, append({ type: "account", id: "ada" }, 0, "B"));
      } catch (error) {
        if (!isEventfoldError(error, "ID_COLLISION")) throw error;
        refused = true;
      }
      equal((await stream(store, { type: "account", id: "Ada" })).map(placed), ["A@1:1"], "the first stream");
      if (!refused) equal((await stream(store, { type: "account", id: "ada" })).map(placed), ["B@1:2"], "the second");
    },
  },
  {
    name: "streams of different types may have the same id",
    async run({ store }) {
      await mustCommit(store, append({ type: "a", id: "1" }, 0, "A"));
      await mustCommit(store, append({ type: "b", id: "1" }, 0, "B", "C"));
      equal((await stream(store, { type: "a", id: "1" })).map(placed), ["A@1:1"], "one type");
      equal((await stream(store, { type: "b", id: "1" })).map(placed), ["B@1:2", "C@2:3"], "the other type");
    },
  },
  {
    name: "strange ids are the same after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      for (const id of STRANGE_IDS) await mustCommit(store, append({ type: "account", id }, 0, "A"));
      const listed = await store.listStreams();
      const again = await reopened();
      equal(await again.listStreams(), listed, "streams");
      equal(
        (await all(again)).map((event) => event.stream.id),
        STRANGE_IDS,
        "ids of all events",
      );
      for (const id of STRANGE_IDS)
        equal((await stream(again, { type: "account", id })).length, 1, `events of ${JSON.stringify(id)}`);
    },
  },
];
