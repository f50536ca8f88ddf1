import { aggregate } from "../../../aggregate/aggregate.ts";
import { data } from "../../../aggregate/payload.ts";
import { Instances } from "../../../aggregate-store/instances.ts";
import { isEventfoldError } from "../../../errors.ts";
import type { EventStore } from "../../../event-store/event-store.ts";
import { equal, within } from "../expect.ts";
import type { Rule } from "../rule.ts";
import { numbers } from "../store-calls.ts";

const Purse = aggregate("purse", {
  initial: 0,
  events: { Put: data<{ amount: number }>(), Took: data<{ amount: number }>() },
  commands: { Put: data<{ amount: number }>(), Take: data<{ amount: number }>(), Empty: data() },
  rejections: { Poor: data() },
}).define({
  handle: {
    Put: ({ data: d, emit }) => emit.Put(d),
    Take: ({ state, data: d, emit, reject }) => (state < d.amount ? reject.Poor() : emit.Took(d)),
    Empty: ({ state, emit }) => (state === 0 ? [] : emit.Took({ amount: state })),
  },
  apply: { Put: (sum, { amount }) => sum + amount, Took: (sum, { amount }) => sum - amount },
});

/** Purses over one handle, as a process has them. */
class Purses {
  readonly #instances: Instances;

  constructor(store: EventStore) {
    const ids = { count: 0 };
    const environment = { now: () => 0, nextId: () => `event-${ids.count++}`, onUnknownEvent: "error" } as const;
    this.#instances = new Instances(store, environment, Infinity);
  }

  /** "done", "nothing" for a command without events, or the rejection. */
  async send(id: string, type: "Put" | "Take" | "Empty", amount?: number): Promise<string> {
    const command = amount === undefined ? { type } : { type, data: { amount } };
    try {
      const { events } = await within(this.#instances.execute(Purse, { type: "purse", id }, command, {}));
      return events.length === 0 ? "nothing" : "done";
    } catch (error) {
      if (isEventfoldError(error, "COMMAND_REJECTED")) return "rejected";
      throw error;
    }
  }

  state(id: string): Promise<unknown> {
    return within(this.#instances.state(Purse, id, {}));
  }

  close(): Promise<void> {
    return this.#instances.close();
  }
}

/** Runs work with the purses of two processes. */
async function withPurses(
  stores: readonly [EventStore, EventStore],
  work: (here: Purses, there: Purses) => Promise<void>,
): Promise<void> {
  const [here, there] = [new Purses(stores[0]), new Purses(stores[1])];
  try {
    await work(here, there);
  } finally {
    await here.close();
    await there.close();
  }
}

/** Aggregates that run on two handles of one store, which know nothing of each other. */
export const instances: readonly Rule[] = [
  {
    name: "the state of an instance has each event that a reader of the store has seen",
    async run({ store }) {
      const purses = new Purses(store);
      let isOver = false;
      const behind: string[] = [];
      const reads: Promise<void>[] = [];
      const compare = async (): Promise<void> => {
        let seen = 0;
        for await (const batch of store.readAll()) seen += batch.length;
        const sum = await purses.state("p");
        if (Number(sum) < seen) behind.push(`${String(sum)} after ${seen} events`);
      };
      const end = store.watch(() => {
        if (!isOver) reads.push(compare());
      });
      for (const _ of numbers(10)) {
        const sent = [purses.send("p", "Put", 1), purses.send("p", "Put", 1)];
        equal(await Promise.all(sent), ["done", "done"], "commands");
      }
      isOver = true;
      end();
      await Promise.all(reads);
      await purses.close();
      equal(behind, [], "states that lack an event");
    },
  },
  {
    name: "no answer of an instance rests on a state from before a commit of another handle",
    needs: "multiProcess",
    run: async ({ store, second }) =>
      withPurses([store, await second()], async (here, there) => {
        for (const n of numbers(20)) {
          const id = `p${n}`;
          equal(await here.send(id, "Put", 1), "done", "the first command");
          equal(await there.send(id, "Put", 100), "done", "the other handle's command");
          if (n % 4 === 0) equal(await here.state(id), 101, "state");
          if (n % 4 === 1) equal(await here.send(id, "Take", 50), "done", "a command that was impossible before");
          if (n % 4 === 2) {
            equal(await there.send(id, "Empty"), "done", "the other handle's second command");
            equal(await here.send(id, "Take", 1), "rejected", "a command that has become impossible");
          }
          if (n % 4 === 3) {
            equal(await there.send(id, "Empty"), "done", "the other handle's second command");
            equal(await here.send(id, "Empty"), "nothing", "a command that has nothing to do any more");
            equal(await there.send(id, "Put", 1), "done", "the other handle's third command");
            equal(await here.send(id, "Empty"), "done", "a command that has something to do again");
          }
        }
      }),
  },
  {
    name: "commands that are sent at once to one instance on two handles are decided one after the other",
    needs: "multiProcess",
    run: async ({ store, second }) =>
      withPurses([store, await second()], async (here, there) => {
        equal(await here.send("shared", "Put", 10), "done", "the first command");
        const answers = await Promise.all(
          numbers(20).map((n) => (n % 2 === 0 ? here : there).send("shared", "Take", 1)),
        );
        equal(answers.filter((answer) => answer === "done").length, 10, "commands that were carried out");
        equal(answers.filter((answer) => answer === "rejected").length, 10, "commands that were rejected");
        equal(await here.state("shared"), 0, "state here");
        equal(await there.state("shared"), 0, "state there");
      }),
  },
];
