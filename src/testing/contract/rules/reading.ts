import { equal } from "../expect.ts";
import { ADA, all, append, BOB, collect, draft, mustCommit, numbers, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Reading a stream, and reading the whole store. */
export const reading: readonly Rule[] = [
  {
    name: "a stream can be read from any version",
    async run({ store }) {
      await mustCommit(store, append(BOB, 0, "X"));
      await mustCommit(store, append(ADA, 0, "A", "B", "C"));
      await mustCommit(store, append(BOB, 1, "Y"));
      await mustCommit(store, append(ADA, 3, "D"));
      const expected = ["A@1:2", "B@2:3", "C@3:4", "D@4:6"];
      // Twice: a store may cache how far a stream has been read.
      for (const from of [1, 2, 3, 4, 5, 6, 1000, 4, 3, 2, 1])
        equal((await stream(store, ADA, from)).map(placed), expected.slice(from - 1), `from version ${from}`);
    },
  },
  {
    name: "the store can be read from any position",
    async run({ store }) {
      for (const n of numbers(12)) await mustCommit(store, append(n % 2 === 0 ? ADA : BOB, (n - 1) >> 1, `E${n}`));
      const expected = numbers(12).map((n) => `E${n}@${(n + 1) >> 1}:${n}`);
      for (const from of [1, 2, 7, 12, 13, 1000])
        equal((await all(store, from)).map(placed), expected.slice(from - 1), `from position ${from}`);
    },
  },
  {
    name: "the head is before commits that are given after the call",
    async run({ store }) {
      for (const n of numbers(30)) {
        const head = store.head();
        const committed = store.commit(append(ADA, n - 1, "A"));
        equal(await head, n - 1, "head");
        await committed;
      }
    },
  },
  {
    name: "the store can be read up to any position",
    async run({ store }) {
      for (const n of numbers(4)) await mustCommit(store, append(ADA, 3 * (n - 1), "A", "B", "C"));
      for (const [from, to] of [
        [1, 1],
        [1, 3],
        [2, 5],
        [4, 4],
        [12, 12],
        [5, 1000],
        [13, 20],
        [5, 4],
      ] as const) {
        const expected = numbers(12).filter((n) => n >= from && n <= to);
        equal(
          (await collect(store.readAll({ from, to }))).map(({ position }) => position),
          expected,
          `positions from ${from} to ${to}`,
        );
        const wanted = new Map([[ADA.type, new Set(["A", "B", "C"])]]);
        equal(
          (await collect(store.readAll({ from, to, wanted }))).map(({ position }) => position),
          expected,
          `positions of wanted events from ${from} to ${to}`,
        );
      }
    },
  },
  {
    name: "a search for undeclared events finds all of them",
    async run({ store }) {
      for (const n of numbers(4)) await mustCommit(store, append(ADA, 4 * (n - 1), "A", "B", "Ä", "AB"));
      await mustCommit(store, append({ type: "other", id: "o" }, 0, "B"));
      const search = async (declared: readonly string[], from: number, to?: number): Promise<string[]> => {
        const undeclared = new Map([[ADA.type, new Set(declared)]]);
        const found = await collect(store.readAll({ from, to, undeclared }));
        // A store may return more.
        return found
          .filter(({ stream: { type }, type: name }) => type === ADA.type && !undeclared.get(type)?.has(name))
          .map(placed);
      };
      equal(await search(["A", "B", "Ä", "AB"], 1), [], "without undeclared events");
      equal(await search(["A", "Ä", "AB"], 3, 10), ["B@6:6", "B@10:10"], "in a range");
      equal(await search(["A", "B", "AB"], 9), ["Ä@11:11", "Ä@15:15"], "from a position on");
      equal((await search([], 1)).length, 16, "all of them");
    },
  },
  {
    name: "long streams are read whole, across batches",
    async run({ store }) {
      const filler = JSON.stringify("x".repeat(100));
      for (const round of numbers(5)) {
        await mustCommit(store, {
          appends: [
            {
              stream: round % 2 === 0 ? BOB : ADA,
              expectedVersion: round % 2 === 0 ? (round / 2 - 1) * 1500 : ((round - 1) / 2) * 1500,
              events: numbers(1500).map(() => draft("E", filler)),
            },
          ],
        });
      }
      equal(
        (await stream(store, ADA)).map(({ version }) => version),
        numbers(4500),
        "versions",
      );
      equal(
        (await stream(store, ADA, 2999)).map(({ position }) => position),
        [...numbers(2).map((n) => 4498 + n), ...numbers(1500).map((n) => 6000 + n)],
        "positions from version 2999 on",
      );
      equal(
        (await all(store)).map(({ position }) => position),
        numbers(7500),
        "positions",
      );
      equal(
        (await all(store, 4321)).map(({ position }) => position),
        numbers(7500).slice(4320),
        "positions from 4321 on",
      );
    },
  },
  {
    name: "a read ends at the head of the moment when it began",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      let seen = 0;
      for await (const batch of store.readAll()) {
        if (seen === 0) await mustCommit(store, append(ADA, 2, "C"));
        seen += batch.length;
      }
      equal(seen, 2, "events of the store");
      seen = 0;
      for await (const batch of store.readStream(ADA)) {
        if (seen === 0) await mustCommit(store, append(ADA, 3, "D"));
        seen += batch.length;
      }
      equal(seen, 3, "events of the stream");
      equal((await all(store)).length, 4, "events in the end");
    },
  },
  {
    name: "changing an event after reading it changes no later read",
    async run({ store }) {
      const event = { ...draft("A", '{"list":[1]}'), meta: { list: [1] } };
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: [event] }] });
      for (const read of [() => stream(store, ADA), () => all(store), () => stream(store, ADA)]) {
        const [stored] = await read();
        equal([stored?.data, stored?.meta], [{ list: [1] }, { list: [1] }], "data and meta");
        for (const value of [stored?.data, stored?.meta]) {
          const { list } = value as { readonly list: number[] };
          if (!Object.isFrozen(list)) list.push(2);
        }
      }
    },
  },
];
