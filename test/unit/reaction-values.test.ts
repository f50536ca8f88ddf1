import { aggregate, AggregateStore, data, isEventfoldError, memory, processManager } from "eventfold-es";
import { spec } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { Counter } from "../support/counter.ts";

const Box = aggregate("box", {
  initial: { put: [] as readonly unknown[] },
  events: { Stored: data<{ value: unknown }>() },
  commands: { Store: data<{ value: unknown }>(), Clear: data() },
}).define({
  handle: { Store: ({ data: d, emit }) => emit.Stored(d), Clear: () => undefined },
  apply: { Stored: (s, { value }) => ({ put: [...s.put, value] }) },
});

class Money {
  readonly amount = 1;
}
const cycle: Record<string, unknown> = {};
cycle["self"] = cycle;

/** Values that JSON would change or drop without a word. */
const VALUES: readonly [string, unknown][] = [
  ["NaN", Number.NaN],
  ["Infinity", [1, Infinity]],
  ["a date", new Date(0)],
  ["a map", new Map([["a", 1]])],
  ["a set", { set: new Set([1]) }],
  ["a class instance", new Money()],
  ["an object with toJSON", { toJSON: () => 1 }],
  ["undefined in an array", [1, undefined]],
  [
    "a hole in an array",
    Array.from({ length: 2 })
      .fill(1, 1)
      .concat(Object.assign([], { length: 1 })),
  ],
  ["a function", () => 1],
  ["a symbol", Symbol("s")],
  ["a symbol for a key", { [Symbol("s")]: 1 }],
  ["a bigint", 1n],
  ["a cycle", cycle],
  ["half of a surrogate pair", "\ud800"],
  ["__proto__ for a key", JSON.parse('{"__proto__":1}')],
];

const described = (error: unknown): { code: string; message: string } => {
  if (isEventfoldError(error)) return { code: error.code, message: error.message };
  throw error;
};

const thrownBy = async (action: () => unknown): Promise<{ code: string; message: string }> => {
  try {
    await action();
  } catch (error) {
    return described(error);
  }
  throw new Error("nothing was thrown");
};

/** The error that stops a manager which reacts so; nothing is sent. */
async function managersError(reaction: () => unknown): Promise<{ code: string; message: string }> {
  const Manager = processManager("m", { dispatches: [Box] }).on(Counter, { Added: reaction as () => undefined });
  await using store = await AggregateStore.builder(memory())
    .aggregate(Counter)
    .aggregate(Box)
    .processManager(Manager)
    .processManagerMode("manual")
    .open();
  await store.dispatch(Counter.at("a").Add({ by: 1 }));
  const error = await store.runProcessManagers().catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "PROCESS_MANAGER_FAILED" });
  expect(await store.list(Box)).toEqual([]);
  expect(await store.deadLetters()).toEqual([]);
  return described((error as Error).cause);
}

const specOf = (reaction: () => unknown) =>
  spec(processManager("m", { dispatches: [Box] }).on(Counter, { Added: reaction as () => undefined })).when({
    aggregate: "counter",
    id: "a",
    type: "Added",
    data: { by: 1 },
  });

describe.each(VALUES)("%s in a reaction is refused with the error of execute", (_, value) => {
  const command = { aggregate: "box", id: "b", command: { type: "Store", data: { value } } } as const;
  const forms: readonly [string, () => unknown][] = [
    ["an envelope", () => command],
    ["an array", () => [Box.at("c").Clear(), command]],
    ["dispatch", () => ({ dispatch: [command] })],
    ["schedule", () => ({ schedule: [{ in: "1h", dispatch: command }] })],
  ];
  test("in a command's payload, in every place, and in a spec", async () => {
    await using store = await AggregateStore.builder(memory()).aggregate(Box).open();
    const direct = await thrownBy(() => store.get(Box, "b").execute(command.command));
    expect(direct.code).toBe("INVALID_PAYLOAD");
    for (const [, reaction] of forms) {
      expect(await managersError(reaction)).toEqual(direct);
      expect(await thrownBy(() => specOf(reaction).thenNothing())).toEqual(direct);
    }
    expect(await thrownBy(() => specOf(() => undefined).thenDispatches(command))).toEqual(direct);
  });

  test("in its context's metadata", async () => {
    const context = { metadata: { value } };
    await using store = await AggregateStore.builder(memory()).aggregate(Box).open();
    const direct = await thrownBy(() => store.get(Box, "b").execute(Box.commands.Clear(), context));
    expect(direct.code).toBe("INVALID_CONTEXT");
    const reaction = () => ({ ...Box.at("b").Clear(), context });
    expect(await managersError(reaction)).toEqual(direct);
    expect(await thrownBy(() => specOf(reaction).thenNothing())).toEqual(direct);
  });

  test("in an event that is given to a spec", () => {
    const given = spec(processManager("m", { dispatches: [Box] }).on(Counter, { Added: () => undefined }));
    const event = { aggregate: "counter", id: "a", type: "Added", data: { value } };
    expect(() => given.when(event).thenNothing()).toThrow(expect.objectContaining({ code: "INVALID_PAYLOAD" }));
  });
});

class Later {
  get schedule(): unknown {
    return [{ in: 1, dispatch: Box.at("b").Clear() }];
  }
}

test.each<[string, () => unknown]>([
  ["a promise", () => Promise.resolve()],
  ["a promise that is rejected", () => Promise.reject(new Error("no"))],
  ["a misspelt key of an envelope", () => ({ ...Box.at("b").Clear(), contxt: {} })],
  ["a misspelt key of a scheduled command", () => ({ schedule: [{ after: "1h", dispatch: Box.at("b").Clear() }] })],
  ["a schedule that is no array", () => ({ schedule: { in: "1h", dispatch: Box.at("b").Clear() } })],
  ["a cancel that is no array", () => ({ cancel: "key" })],
  ["a key that is no string", () => ({ cancel: [1] })],
  [
    "a key of a scheduled command that is no string",
    () => ({ schedule: [{ in: 1, key: 7, dispatch: Box.at("b").Clear() }] }),
  ],
  ["a hole among its commands", () => Object.assign([], { length: 2 })],
  ["null among its commands", () => ({ dispatch: [null] })],
  ["a set of commands", () => new Set([Box.at("b").Clear()])],
  ["a map of commands", () => new Map([["dispatch", Box.at("b").Clear()]])],
  ["an iterator of commands", () => [Box.at("b").Clear()].values()],
  ["a date", () => new Date(0)],
  ["an instance of a class, whose getters are not its own", () => new Later()],
  ["a scheduled command with two times", () => ({ schedule: [{ in: 1, at: 1, dispatch: Box.at("b").Clear() }] })],
  [
    "a version that its command's context cannot ask for",
    () => ({ ...Box.at("b").Clear(), context: { expectedVersion: 7 } }),
  ],
])("a reaction that returns %s is no reaction", async (_, reaction) => {
  expect((await managersError(reaction)).code).toBe("INVALID_REACTION");
  expect((await thrownBy(() => specOf(reaction).thenNothing())).code).toBe("INVALID_REACTION");
});

test("a value that JSON keeps is sent as it is, and what the reaction does to it later does not matter", async () => {
  const value = { list: [1, "ü", null, { deep: true }], absent: undefined as unknown };
  const Manager = processManager("m", { dispatches: [Box] }).on(Counter, {
    Added: () => {
      queueMicrotask(() => value.list.push("later"));
      return Box.at("b").Store({ value });
    },
  });
  await using store = await AggregateStore.builder(memory())
    .aggregate(Counter)
    .aggregate(Box)
    .processManager(Manager)
    .processManagerMode("manual")
    .open();
  await store.dispatch(Counter.at("a").Add({ by: 1 }));
  await store.runProcessManagers();
  expect((await store.get(Box, "b").state()).put).toEqual([{ list: [1, "ü", null, { deep: true }] }]);
});

test.each<[string, unknown, unknown]>([
  ["two maps", new Map([["a", 1]]), new Map()],
  ["two sets", new Set([1]), new Set([2])],
  ["NaN and null", Number.NaN, null],
  ["0 and -0", 0, -0],
  ["two dates", new Date(0), new Date(1)],
  ["undefined and null in an array", [undefined], [null]],
  ["a bigint and its text", 1n, "<1n>"],
])("a spec tells %s apart in a state", (_, is, should) => {
  const expecting = specOf(() => ({ state: { value: is } }));
  const outcome = (value: unknown) => () => expecting.thenState({ value } as unknown as null);
  expect(outcome(is)).not.toThrow();
  expect(outcome(should)).toThrow("state:");
});
