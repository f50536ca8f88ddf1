import { equal, within } from "../expect.ts";
import { ADA, append } from "../store-calls.ts";
import type { Rule } from "../rule.ts";

/** Dead letters, committed with the notes of their consumer. */
export const deadLetters: readonly Rule[] = [
  {
    name: "dead letters are kept until they are dropped",
    async run({ store }) {
      const letter = (key: string) => ({ key, letter: { error: `no ${key}`, list: [1, null] } });
      const commit = (expectedSequence: number, keys: readonly string[], dropped: readonly string[]) =>
        within(
          store.commit({
            appends: [],
            consumer: {
              name: "pm",
              expectedSequence,
              note: null,
              deadLetters: keys.map(letter),
              settledLetters: dropped,
            },
          }),
        );
      equal(await store.deadLetters("pm"), [], "before there are any");
      equal((await commit(0, ["a", "b"], [])).ok, true, "two letters");
      equal((await commit(1, ["c"], ["a"])).ok, true, "one more, one settled");
      equal((await commit(1, ["d"], ["b"])).ok, false, "too late");
      equal(await store.deadLetters("pm"), [letter("b"), letter("c")], "letters");
      equal(await store.deadLetters("other"), [], "letters of another consumer");
      equal(await store.deadLetter("pm", "c"), letter("c"), "one letter");
      for (const key of ["a", "d", "__proto__"])
        equal(await store.deadLetter("pm", key), undefined, `the letter ${key}, which is settled or was never there`);
      equal(await store.deadLetter("other", "c"), undefined, "a letter of another consumer");
    },
  },
  {
    name: "notes and dead letters are there after reopening, and an old note conflicts",
    needs: "durable",
    async run({ store, reopened }) {
      const consumer = {
        name: "pm",
        expectedSequence: 0,
        note: { at: 1 },
        deadLetters: [{ key: "k", letter: { error: "no" } }],
      };
      equal((await within(store.commit({ ...append(ADA, 0, "A"), consumer }))).ok, true, "commit");
      const again = await reopened();
      equal(await again.consumerNotes("pm", 0), [{ sequence: 1, note: { at: 1 } }], "notes");
      equal(await again.deadLetters("pm"), [{ key: "k", letter: { error: "no" } }], "dead letters");
      equal(
        await within(again.commit({ appends: [], consumer })),
        { ok: false, consumer: "pm", actualSequence: 1 },
        "the same note again",
      );
    },
  },
];
