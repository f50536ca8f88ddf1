import { AggregateStore, type CommandOf, memory, type RecordedEvent, type StateOf } from "eventfold-es";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

type Store = AggregateStore<typeof Account>;
type Command = Exclude<CommandOf<typeof Account>, { readonly type: "Crash" }>;
type State = StateOf<typeof Account>;
interface Event {
  readonly type: string;
  readonly data?: unknown;
}

const IDS = ["ada", "bob", "größe/🦀"] as const;

const amount = fc.integer({ min: 1, max: 50 });
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.constant<Command>({ type: "Open", data: { owner: "x" } }),
  amount.map<Command>((n) => ({ type: "Deposit", data: { amount: n } })),
  amount.map<Command>((n) => ({ type: "Withdraw", data: { amount: n } })),
  fc.array(amount, { maxLength: 4 }).map<Command>((amounts) => ({ type: "Split", data: { amounts } })),
  fc.constant<Command>({ type: "Close" }),
);
const addressed = fc.record({ id: fc.constantFrom(...IDS), command });
type Addressed = typeof addressed extends fc.Arbitrary<infer T> ? T : never;

type Step =
  /** Commands that are given one after the other, without waiting. */
  | { readonly kind: "execute"; readonly commands: readonly Addressed[] }
  | { readonly kind: "together"; readonly commands: readonly Addressed[] }
  | { readonly kind: "crash"; readonly id: string }
  | { readonly kind: "reopen" };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("execute"),
      commands: fc.array(addressed, { minLength: 1, maxLength: 8 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("together"),
      commands: fc.array(addressed, { minLength: 1, maxLength: 5 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash"), id: fc.constantFrom(...IDS) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen") }) },
);

/** The simplest model of the bank, without a store. */
class Model {
  readonly events: (Event & { readonly id: string; readonly version: number })[] = [];
  readonly states = new Map<string, State[]>(IDS.map((id) => [id, [{ open: false, balance: 0 }]]));

  state(id: string): State {
    return this.states.get(id)?.at(-1) ?? { open: false, balance: 0 };
  }

  /** The events of a command on a state, or the name of the rejection. */
  static decide(state: State, { type, data }: Command): Event[] | string {
    if (type === "Open") return state.open ? [] : [{ type: "Opened", data }];
    if (type === "Close") return state.open ? [{ type: "Closed" }] : [];
    if (!state.open) return "NotOpen";
    if (type === "Split") return data.amounts.map((n) => ({ type: "Deposited", data: { amount: n } }));
    if (type === "Deposit") return [{ type: "Deposited", data }];
    return state.balance < data.amount ? "InsufficientFunds" : [{ type: "Withdrawn", data }];
  }

  static next(state: State, { type, data }: Event): State {
    if (type === "Opened") return { ...state, open: true };
    if (type === "Closed") return { ...state, open: false };
    const { amount: n } = data as { readonly amount: number };
    return { ...state, balance: state.balance + (type === "Deposited" ? n : -n) };
  }

  apply(id: string, events: readonly Event[]): void {
    const states = this.states.get(id) ?? [];
    for (const event of events) {
      this.events.push({ ...event, id, version: states.length });
      states.push(Model.next(this.state(id), event));
    }
  }

  /** All or nothing; the events of one instance follow each other. Returns the rejection. */
  together(commands: readonly Addressed[]): string | undefined {
    const states = new Map<string, State>();
    const events = new Map<string, Event[]>();
    for (const { id, command: each } of commands) {
      const state = states.get(id) ?? this.state(id);
      const decision = Model.decide(state, each);
      if (typeof decision === "string") return decision;
      states.set(
        id,
        decision.reduce((s, event) => Model.next(s, event), state),
      );
      events.set(id, [...(events.get(id) ?? []), ...decision]);
    }
    for (const [id, each] of events) this.apply(id, each);
    return undefined;
  }
}

/** Runs the steps on a store and on the model, and compares every result that a user can see. */
async function run(steps: readonly Step[], open: () => Promise<Store>, reopens: boolean): Promise<RecordedEvent[]> {
  const model = new Model();
  let store = await open();
  try {
    for (const each of steps) {
      if (each.kind === "reopen") {
        if (!reopens) continue;
        await store.close();
        store = await open();
      } else if (each.kind === "crash") {
        await expect(store.get(Account, each.id).execute({ type: "Crash" })).rejects.toThrow("a bug in handle");
      } else if (each.kind === "together") {
        await together(store, model, each.commands);
      } else await oneByOne(store, model, each.commands);
      for (const id of IDS) expect(await store.get(Account, id).state()).toEqual(model.state(id));
    }
    return await compareHistory(store, model);
  } finally {
    await store.close();
  }
}

async function oneByOne(store: Store, model: Model, commands: readonly Addressed[]): Promise<void> {
  const attempts = await Promise.all(commands.map(({ id, command: each }) => store.get(Account, id).try(each)));
  const committed: { readonly position: number; readonly id: string; readonly events: readonly Event[] }[] = [];
  const states = new Map<string, State>();
  for (const [i, attempt] of attempts.entries()) {
    const given = commands[i];
    if (given === undefined) continue;
    const state = states.get(given.id) ?? model.state(given.id);
    const decision = Model.decide(state, given.command);
    if (typeof decision === "string") {
      expect(attempt).toMatchObject({ ok: false, rejection: { type: decision } });
      continue;
    }
    const after = decision.reduce((s, event) => Model.next(s, event), state);
    states.set(given.id, after);
    expect(attempt).toMatchObject({ ok: true, state: after });
    if (!attempt.ok) continue;
    expect(attempt.events.map(({ type, data }) => ({ type, data }))).toEqual(decision);
    if (decision.length > 0) committed.push({ position: attempt.position, id: given.id, events: decision });
  }
  // Commands of different instances may overtake each other.
  for (const { id, events } of committed.sort((a, b) => a.position - b.position)) model.apply(id, events);
}

async function together(store: Store, model: Model, commands: readonly Addressed[]): Promise<void> {
  const envelopes = commands.map(({ id, command: each }) => ({ aggregate: "account" as const, id, command: each }));
  const rejection = model.together(commands);
  if (rejection !== undefined) {
    await expect(store.dispatchAll(envelopes)).rejects.toMatchObject({ rejection: { type: rejection } });
    return;
  }
  const { results } = await store.dispatchAll(envelopes);
  expect(results).toHaveLength(commands.length);
  const last = new Map(commands.map(({ id }, i) => [id, results[i]?.state]));
  for (const [id, state] of last) expect(state).toEqual(model.state(id));
}

async function compareHistory(store: Store, model: Model): Promise<RecordedEvent[]> {
  const all: RecordedEvent[] = [];
  for (const id of IDS) {
    const states = model.states.get(id) ?? [];
    const events = await collect(store.readEvents("account", id));
    expect(events.map(({ version }) => version)).toEqual(states.slice(1).map((_, i) => i + 1));
    all.push(...events);
    for (const version of [0, 1, states.length >> 1, states.length - 1]) {
      if (version < states.length) expect(await store.get(Account, id).state({ version })).toEqual(states[version]);
    }
  }
  all.sort((a, b) => a.position - b.position);
  expect(all.map(({ position }) => position)).toEqual(all.map((_, i) => i + 1));
  expect(all.map(({ type, data, id, version }) => ({ type, data, id, version }))).toEqual(
    model.events.map(({ type, data, id, version }) => ({ type, data, id, version })),
  );
  const withEvents = IDS.filter((id) => (model.states.get(id)?.length ?? 0) > 1);
  expect(await store.list(Account)).toEqual(withEvents.toSorted());
  return all;
}

test("any sequence of commands has the results of a model, in memory and on disk", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const directory = temporaryDirectory();
      const inMemory = await run(steps, () => AggregateStore.builder(memory()).aggregate(Account).open(), false);
      const onDisk = await run(steps, () => AggregateStore.builder(directory).aggregate(Account).open(), true);
      const seen = (events: readonly RecordedEvent[]): unknown =>
        events.map(({ id, type, data }) => ({ id, type, data }));
      expect(seen(onDisk.toSorted(byInstance))).toEqual(seen(inMemory.toSorted(byInstance)));
    }),
    { numRuns: 60 },
  );
});

function byInstance(a: RecordedEvent, b: RecordedEvent): number {
  return a.id === b.id ? a.version - b.version : a.id < b.id ? -1 : 1;
}
