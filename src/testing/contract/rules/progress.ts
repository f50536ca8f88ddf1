import type { Commit, CommitResult } from "../../../event-store/event-store.ts";
import { equal, within } from "../expect.ts";
import { ADA, all, append, BOB } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** A consumer's notes, committed with its effects. */
export const progress: readonly Rule[] = [
  {
    name: "a consumer's notes count from 1 and are written with its events or not at all",
    async run({ store }) {
      const note = (name: string, expectedSequence: number, value: unknown, events?: Commit): Promise<CommitResult> =>
        store.commit({ appends: events?.appends ?? [], consumer: { name, expectedSequence, note: value } });
      equal(await store.consumerNotes("pm", 0), [], "before there are any");
      equal((await within(note("pm", 0, { at: 1 }, append(ADA, 0, "A")))).ok, true, "first note");
      equal((await within(note("pm", 1, "only a note"))).ok, true, "a note without events");
      equal((await within(note("other", 0, [1]))).ok, true, "a note of another consumer");
      equal(
        await within(note("pm", 1, "late", append(BOB, 0, "X"))),
        { ok: false, consumer: "pm", actualSequence: 2 },
        "a note that comes too late",
      );
      equal(
        await within(note("pm", 2, "conflict", append(ADA, 0, "X"))),
        { ok: false, stream: ADA, actualVersion: 1 },
        "a note with events that conflict",
      );
      equal((await all(store)).map(placed), ["A@1:1"], "events");
      const notes = [
        { sequence: 1, note: { at: 1 } },
        { sequence: 2, note: "only a note" },
      ];
      for (const after of [0, 1, 2, 3])
        equal(await store.consumerNotes("pm", after), notes.slice(after), `notes after ${after}`);
      equal(await store.consumerNotes("other", 0), [{ sequence: 1, note: [1] }], "notes of another consumer");
      for (const [after, limit] of [
        [0, 1],
        [1, 1],
        [0, 2],
        [0, 9],
        [2, 1],
      ] as const)
        equal(
          await store.consumerNotes("pm", after, limit),
          notes.slice(after, after + limit),
          `${limit} after ${after}`,
        );
    },
  },
  {
    name: "the progress of the store has its head and the last note of each consumer",
    async run({ store }) {
      const found = async (): Promise<unknown> => {
        const { head, consumers } = await store.progress();
        return [head, ...[...consumers].sort(([a], [b]) => (a < b ? -1 : 1))];
      };
      equal(await found(), [0], "of an empty store");
      equal((await within(store.commit(append(ADA, 0, "A", "B")))).ok, true, "events");
      for (const [name, expectedSequence] of [
        ["pm", 0],
        ["pm", 1],
        ["other", 0],
      ] as const)
        equal((await store.commit({ appends: [], consumer: { name, expectedSequence, note: {} } })).ok, true, "a note");
      equal(await found(), [2, ["other", 1], ["pm", 2]], "after events and notes");
    },
  },
  {
    name: "the consumers that have notes are listed, in order",
    async run({ store }) {
      const note = (name: string): Promise<CommitResult> =>
        within(store.commit({ appends: [], consumer: { name, expectedSequence: 0, note: {} } }));
      equal(await store.listConsumers(), [], "before there are any");
      for (const name of ["pm", "Z", "kind:name"]) equal((await note(name)).ok, true, `a note of ${name}`);
      equal((await note("pm")).ok, false, "a note that comes too late");
      equal(await store.listConsumers(), ["Z", "kind:name", "pm"], "consumers");
    },
  },
  {
    name: "the consumers are listed after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      const consumer = { expectedSequence: 0, note: null };
      await within(store.commit({ ...append(ADA, 0, "A"), consumer: { ...consumer, name: "pm" } }));
      await within(store.commit({ appends: [], consumer: { ...consumer, name: "store:own" } }));
      equal(await (await reopened()).listConsumers(), ["pm", "store:own"], "consumers");
    },
  },
];
