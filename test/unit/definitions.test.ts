import { aggregate, AggregateStore, data, type EventfoldError, isEventfoldError, memory } from "eventfold-es";
import { describe, expect, test } from "vitest";

const contract = { initial: { n: 0 }, events: { A: data() }, commands: { Do: data() } };
const behaviour = { handle: { Do: () => [] }, apply: { A: (state: { n: number }) => state } };

/** The error that `run` throws, which must be an EventfoldError. */
function errorOf(run: () => unknown): EventfoldError {
  try {
    run();
  } catch (error) {
    if (isEventfoldError(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("aggregate types", () => {
  test.each(["account", "Account", "a", "_", "order-line_2", "x".repeat(100), "console", "com10"])(
    "%j is valid",
    (type) => {
      expect(aggregate(type, contract).type).toBe(type);
    },
  );

  test.each([
    "",
    " ",
    "a b",
    "a/b",
    "../a",
    ".",
    "..",
    "a\\b",
    "1a",
    "-a",
    "a\u0000",
    "a\n",
    "%41",
    "x".repeat(101),
    undefined,
    null,
    5,
    {},
  ])("%j is none", (type) => {
    const error = errorOf(() => aggregate(type as string, contract));
    expect(error.code).toBe("INVALID_DEFINITION");
    expect(error.message).toContain(JSON.stringify(type) ?? "undefined");
  });
});

describe("message names", () => {
  const sections = ["events", "commands", "rejections"] as const;
  const named = (section: (typeof sections)[number], name: string): unknown =>
    aggregate("a", { initial: 0, events: {}, commands: {}, [section]: { [name]: data() } });

  test.each(["A", "opened", "_x", "Größe_日本", "With-Dash", "v2", "toString", "hasOwnProperty", "x".repeat(200)])(
    "%j is valid",
    (name) => {
      for (const section of sections) expect(named(section, name)).toBeDefined();
    },
  );

  test.each([
    "",
    " ",
    "a b",
    "1a",
    "-a",
    'a"b',
    "a\\b",
    "a\n",
    "a\ud800",
    "🦀",
    "then",
    "__proto__",
    "constructor",
    "prototype",
    "x".repeat(201),
  ])("%j is none, in no section", (name) => {
    for (const section of sections) {
      const error = errorOf(() => named(section, name));
      expect(error.code).toBe("INVALID_DEFINITION");
      expect(error.message).toContain(JSON.stringify(name));
    }
  });

  test("names of an object's methods are valid", () => {
    const payloads = { hasOwnProperty: data(), valueOf: data<{ n: number }>() };
    const { commands, at } = aggregate("a", { initial: 0, events: {}, commands: payloads });
    expect(commands.hasOwnProperty()).toEqual({ type: "hasOwnProperty" });
    expect(at("x").valueOf({ n: 1 })).toEqual({
      aggregate: "a",
      id: "x",
      command: { type: "valueOf", data: { n: 1 } },
    });
  });
});

describe("constructors", () => {
  const Counter = aggregate("counter", {
    initial: 0,
    events: { Added: data<{ by: number }>(), Reset: data() },
    commands: { Add: data<{ by: number }>(), Reset: data() },
  });

  test("return plain data", () => {
    expect(Counter.events.Added({ by: 5 })).toEqual({ type: "Added", data: { by: 5 } });
    expect(Counter.commands.Add({ by: 5 })).toEqual({ type: "Add", data: { by: 5 } });
    const message = { type: "Reset" };
    expect(Object.keys(Counter.commands.Reset())).toEqual(Object.keys(message));
    const envelope = Counter.at("c").Add({ by: 5 });
    expect(envelope).toEqual({ aggregate: "counter", id: "c", command: { type: "Add", data: { by: 5 } } });
    expect(JSON.parse(JSON.stringify(envelope))).toEqual(envelope);
  });

  test("cannot be replaced or extended", () => {
    for (const constructors of [Counter.events, Counter.commands] as object[]) {
      expect(() => Object.assign(constructors, { Reset: () => "mine" })).toThrow(TypeError);
      expect(() => Object.assign(constructors, { Other: () => "mine" })).toThrow(TypeError);
    }
  });

  test("have only declared names, so awaiting them is harmless", async () => {
    for (const constructors of [Counter.events, Counter.commands, Counter.at("c")] as object[]) {
      expect(await Promise.resolve(constructors)).toBe(constructors);
      expect("toString" in constructors).toBe(false);
      expect("constructor" in constructors).toBe(false);
    }
  });
});

describe("behaviour", () => {
  test("may be defined more than once for a contract", () => {
    const shared = aggregate("a", contract);
    const first = shared.define(behaviour);
    const second = shared.define({ ...behaviour, snapshotEvery: 5 });
    expect(first.behaviour.snapshotEvery).toBeUndefined();
    expect(second.behaviour.snapshotEvery).toBe(5);
    expect(first.contract).toBe(second.contract);
  });

  const { handle, apply } = behaviour;
  test.each<{ what: string; given: unknown; missing: string }>([
    { what: "a handler", given: { handle: {}, apply }, missing: "Do" },
    { what: "a handler that is a function", given: { handle: { Do: "no" }, apply }, missing: "Do" },
    { what: "an own handler", given: { handle: Object.create(handle), apply }, missing: "Do" },
    { what: "an apply function", given: { handle, apply: {} }, missing: "A" },
    { what: "all handlers", given: { apply }, missing: "handle" },
    { what: "all apply functions", given: { handle }, missing: "apply" },
    { what: "everything", given: {}, missing: "handle" },
  ])("without $what is refused", ({ given, missing }) => {
    const error = errorOf(() => aggregate("account", contract).define(given as typeof behaviour));
    expect(error.code).toBe("INVALID_DEFINITION");
    expect(error.message).toContain("account");
    expect(error.message).toContain(missing);
  });

  test.each<{ what: string; given: unknown; extra: string }>([
    { what: "a command", given: { handle: { ...handle, Undo: () => [] }, apply }, extra: "Undo" },
    { what: "an event", given: { handle, apply: { ...apply, Undone: () => 0 } }, extra: "Undone" },
  ])("for $what that is not declared is refused", ({ given, extra }) => {
    const error = errorOf(() => aggregate("account", contract).define(given as typeof behaviour));
    expect(error.code).toBe("INVALID_DEFINITION");
    expect(error.message).toContain(extra);
  });

  test.each([0, -1, 1.5, NaN, Infinity, "100", null])("with snapshotEvery %j is refused", (snapshotEvery) => {
    const given = { ...behaviour, snapshotEvery: snapshotEvery as number };
    expect(errorOf(() => aggregate("a", contract).define(given)).code).toBe("INVALID_DEFINITION");
  });
});

describe("a store", () => {
  test.each(["errors", "event", "handle"])("refuses the unknown key %s in a contract", (key) => {
    const error = errorOf(() => aggregate("a", { ...contract, [key]: {} }));
    expect(error.code).toBe("INVALID_DEFINITION");
    expect(error.message).toContain(`unknown key "${key}"; expected initial, events, commands, rejections`);
  });

  test("refuses a contract without behaviour", async () => {
    const store = await AggregateStore.open(memory());
    expect(errorOf(() => store.get(aggregate("a", contract) as never, "1")).code).toBe("INVALID_DEFINITION");
  });

  test("refuses two definitions of one type", async () => {
    const store = await AggregateStore.open(memory());
    const first = aggregate("a", contract).define(behaviour);
    store.get(first, "1");
    store.get(first, "2");
    expect(errorOf(() => store.get(aggregate("a", contract).define(behaviour), "1")).code).toBe("DUPLICATE_DEFINITION");
    for (const type of ["a", "A"] as const) {
      const second = aggregate(type, contract).define(behaviour);
      await expect(AggregateStore.builder(memory()).aggregate(first).aggregate(second).open()).rejects.toMatchObject({
        code: "DUPLICATE_DEFINITION",
      });
    }
  });
});
