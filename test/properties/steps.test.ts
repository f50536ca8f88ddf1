import {
  aggregate,
  AggregateStore,
  type AnyAggregate,
  data,
  dropped,
  type EventStorage,
  memory,
  type PastEvent,
  type Payload,
  processManager,
  projection,
  renamed,
  replaced,
  type TypedPayload,
} from "eventfold-es";
import { spec } from "eventfold-es/testing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";

interface Payload1 {
  readonly n: number;
  /** The steps that the payload has been through. */
  readonly trail: readonly string[];
}
interface Message {
  readonly type: string;
  readonly data: Payload1;
}
type Change =
  | { readonly kind: "step"; readonly name: string; readonly label: string }
  | { readonly kind: "rename"; readonly name: string; readonly to: string }
  | { readonly kind: "split"; readonly name: string; readonly into: readonly [string, string] }
  | { readonly kind: "drop"; readonly name: string };

const marked = (payload: Payload1, label: string): Payload1 => ({ ...payload, trail: [...payload.trail, label] });

/** What one change makes of an event: the reference, which knows nothing of contracts. */
function changed(change: Change, event: Message): Message[] {
  if (event.type !== change.name) return [event];
  switch (change.kind) {
    case "step":
      return [{ ...event, data: marked(event.data, change.label) }];
    case "rename":
      return [{ ...event, type: change.to }];
    case "split":
      return change.into.map((type, index) => ({ type, data: { ...event.data, n: event.data.n * 10 + index } }));
    case "drop":
      return [];
  }
}

/** A payload of an event that a split makes, in the newest shape of that event. */
function newest(changes: readonly Change[], type: string, payload: Payload1): Payload1 {
  let event: Message = { type, data: payload };
  for (const change of changes) {
    if (change.name !== event.type) continue;
    if (change.kind === "split" || change.kind === "drop") break;
    [event] = changed(change, event) as [Message];
  }
  return event.data;
}

/** The model after some changes. */
function modelOf(changes: readonly Change[]): AnyAggregate {
  const events = new Map<string, Payload>(["A", "B", "C"].map((name) => [name, data<Payload1>()]));
  const history: PastEvent[] = [];
  for (const [index, change] of changes.entries()) {
    const payload = events.get(change.name) as TypedPayload<Payload1>;
    if (change.kind === "step") {
      events.set(
        change.name,
        payload.to<Payload1>((old) => marked(old, change.label)),
      );
      continue;
    }
    events.delete(change.name);
    if (change.kind === "rename") {
      events.set(change.to, payload);
      history.push(renamed(change.name, change.to));
    } else if (change.kind === "drop") history.push(dropped(change.name));
    else {
      for (const name of change.into) events.set(name, data<Payload1>());
      const later = changes.slice(index + 1);
      const convert = (old: Payload1): Message[] =>
        changed(change, { type: change.name, data: old }).map(({ type, data: part }) => ({
          type,
          data: newest(later, type, part),
        }));
      history.push(replaced(change.name, payload, convert as never));
    }
  }
  const apply = Object.fromEntries(
    [...events.keys()].map((type) => [type, (log: unknown[], payload: Payload1) => [...log, [type, payload]]]),
  );
  const declared = Object.fromEntries(events);
  return aggregate("thing", {
    initial: [] as unknown[],
    events: declared,
    commands: { Do: data<Message[]>() },
    history: history as never,
  }).define({ handle: { Do: ({ data: list }) => list as never }, apply }) as unknown as AnyAggregate;
}

const Echo = aggregate("echo", {
  initial: [] as unknown[],
  events: { Heard: data<unknown>() },
  commands: { Hear: data<unknown>() },
}).define({
  handle: { Hear: ({ data: said, emit }) => emit.Heard(said) },
  apply: { Heard: (log, said) => [...log, said] },
});

function readersOf(model: AnyAggregate) {
  const names = Object.keys(model.contract.events as object);
  const handlers = <R>(handle: (state: unknown, event: Message) => R): never =>
    Object.fromEntries(names.map((name) => [name, handle])) as never;
  return {
    Log: projection("log", () => [] as unknown[]).on(
      model,
      handlers((state, { type, data: payload }) => void (state as unknown[]).push([type, payload])),
    ),
    Echoes: processManager("echoes", { dispatches: [Echo], initial: { count: 0 } }).on(
      model,
      handlers((state, { type, data: payload }) => ({
        state: { count: (state as { count: number }).count + 1 },
        dispatch: Echo.at("e").Hear([type, payload]),
      })),
    ),
  };
}

/** Changes that fit each other, and for each generation of the model the events that it writes. */
const lives = fc
  .array(
    fc.record({
      kind: fc.constantFrom("step" as const, "rename" as const, "split" as const, "step" as const, "drop" as const),
      pick: fc.nat(),
      runsManagers: fc.boolean(),
      written: fc.array(fc.record({ pick: fc.nat(), n: fc.nat(9) }), { maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 5 },
  )
  .map((wishes) => {
    let names = ["A", "B", "C"];
    const changes: Change[] = [];
    const written: Message[][] = [];
    for (const [index, { kind, pick, written: wish }] of wishes.entries()) {
      written.push(
        wish.map((event) => ({
          type: names[event.pick % names.length] as string,
          data: { n: event.n, trail: [`written ${index}`] },
        })),
      );
      const name = names[pick % names.length] as string;
      const rest = names.filter((other) => other !== name);
      if (kind === "step") changes.push({ kind, name, label: `step ${index}` });
      else if (kind === "rename") {
        changes.push({ kind, name, to: `R${index}` });
        names = [...rest, `R${index}`];
      } else if (kind === "split") {
        changes.push({ kind, name, into: [`S${index}`, `T${index}`] });
        names = [...rest, `S${index}`, `T${index}`];
      } else if (rest.length > 0) {
        changes.push({ kind, name });
        names = rest;
      } else changes.push({ kind: "step", name, label: `step ${index}` });
    }
    return { changes, written, runs: wishes.map(({ runsManagers }) => runsManagers) };
  });

interface Life {
  readonly changes: Change[];
  readonly written: Message[][];
  /** Whether the process managers run in a generation. */
  readonly runs: boolean[];
}

async function checkLife(storage: EventStorage | string, { changes, written, runs }: Life): Promise<void> {
  const expected: [string, Payload1][] = [];
  const echoed: [string, Payload1][] = [];
  /** Events that no manager has seen yet, and the number of changes before they were written. */
  let unseen: { readonly event: Message; readonly done: number }[] = [];
  const echo = (until: number): void => {
    for (const { event, done } of unseen) {
      let list = [event];
      for (const change of changes.slice(done, until)) list = list.flatMap((each) => changed(change, each));
      echoed.push(...list.map(({ type, data: payload }): [string, Payload1] => [type, payload]));
    }
    unseen = [];
  };
  for (const [generation, events] of written.entries()) {
    const done = Math.min(generation, changes.length);
    const model = modelOf(changes.slice(0, done));
    const { Log, Echoes } = readersOf(model);
    await using store = await AggregateStore.builder(storage)
      .aggregate(model)
      .aggregate(Echo)
      .projection(Log)
      .processManager(Echoes)
      .processManagerMode("manual")
      .open();
    await store.dispatch({ aggregate: "thing", id: "t", command: { type: "Do", data: events } } as never);
    await store.projection(Log);
    unseen.push(...events.map((event) => ({ event, done })));
    if (runs[generation] === true) {
      await store.runProcessManagers();
      echo(done);
    }
    for (const event of events) {
      let list = [event];
      for (const change of changes.slice(done)) list = list.flatMap((each) => changed(change, each));
      expected.push(...list.map(({ type, data: payload }): [string, Payload1] => [type, payload]));
    }
  }
  const last = modelOf(changes);
  const { Log, Echoes } = readersOf(last);
  await using store = await AggregateStore.builder(storage)
    .aggregate(last)
    .aggregate(Echo)
    .projection(Log)
    .processManager(Echoes)
    .processManagerMode("manual")
    .open();
  expect(await store.get(last, "t").state()).toEqual(expected);
  expect(await store.projection(Log)).toEqual(expected);
  await store.runProcessManagers();
  echo(changes.length);
  expect(await store.get(Echo, "e").state()).toEqual(echoed);
  const read: unknown[] = [];
  const given: { type: string; data?: unknown; step?: number }[] = [];
  for await (const { type, data: payload } of store.events({ aggregates: ["thing"] })) read.push([type, payload]);
  expect(read).toEqual(expected);

  // The same events, as they were stored, given to a specification.
  for (const [generation, events] of written.entries()) {
    const done = changes.slice(0, Math.min(generation, changes.length));
    for (const { type, data: payload } of events) given.push({ type, data: payload, step: stepsOf(done, type) });
  }
  const stored = given.map((event) => ({ aggregate: "thing", id: "t", ...event }));
  spec(last)
    .givenStored(...given)
    .when({ type: "Do", data: [] } as never)
    .thenState(expected);
  spec(Log)
    .given(...stored)
    .thenState(expected);
  spec(Echoes)
    .given(...stored)
    .when({ aggregate: "echo", id: "none", type: "Heard", data: null })
    .thenState(stored.length === 0 ? { count: 0 } : { count: expected.length });
}

/** How many steps an event has been through that is written after some changes. */
function stepsOf(changes: readonly Change[], type: string): number {
  let name = type;
  let steps = 0;
  for (const change of [...changes].reverse()) {
    if (change.kind === "rename" && change.to === name) name = change.name;
    else if (change.kind === "split" && change.into.includes(name)) break;
    else if (change.kind === "step" && change.name === name) steps++;
  }
  return steps;
}

test("any chain of steps, renames, splits and drops gives the states of events written in the last shape", async () => {
  await fc.assert(
    fc.asyncProperty(lives, (life) => checkLife(memory(), life)),
    { numRuns: 150 },
  );
});

test("the same on disk", async () => {
  await fc.assert(
    fc.asyncProperty(lives, (life) => checkLife(temporaryDirectory(), life)),
    { numRuns: 10 },
  );
});
