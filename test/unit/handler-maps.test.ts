import { aggregate, AggregateStore, data, isEventfoldError, memory, processManager, projection } from "eventfold-es";
import { spec } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";

/* oxlint-disable no-explicit-any, no-unsafe-assignment, no-unsafe-argument -- what the compiler would refuse */

const contract = aggregate("counter", {
  initial: { n: 0 },
  events: { Added: data<{ by: number }>(), Reset: data() },
  commands: { Add: data<{ by: number }>(), Clear: data() },
  rejections: { Full: data() },
});
const handle = { Add: ({ data, emit }: any) => emit.Added(data), Clear: ({ emit }: any) => emit.Reset() };
const apply = {
  Added: (s: { n: number }, { by }: { by: number }) => ({ n: s.n + by }),
  Reset: () => ({ n: 0 }),
};

class Methods {
  Added(s: { n: number }): { n: number } {
    return s;
  }
  Reset(s: { n: number }): { n: number } {
    return s;
  }
}

/** The code and message of what `run` throws. */
function thrownBy(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isEventfoldError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
}

describe("a map of handlers that cannot work is refused when it is defined", () => {
  test.each<[string, object, string]>([
    ["methods of a class", { handle, apply: new Methods() }, "instance of Methods"],
    ["a class", { handle, apply: Methods }, "found a function"],
    ["an array", { handle, apply: [] }, "instance of Array"],
    ["no map", { handle }, "found undefined"],
    ["a misspelt name", { handle, apply: { ...apply, Adedd: apply.Added } }, "Adedd is not declared"],
    ["a symbol", { handle, apply: { ...apply, [Symbol("x")]: apply.Added } }, "Symbol(x) is not declared"],
    ["missing functions", { handle: {}, apply }, "Add has no function; Clear has no function"],
    ["an asynchronous apply", { handle, apply: { ...apply, Reset: async () => ({ n: 0 }) } }, "Reset is asynchronous"],
    ["an asynchronous handle", { handle: { ...handle, Add: async () => [] }, apply }, "Add is asynchronous"],
    ["a generator", { handle: { ...handle, *Add() {} }, apply }, "Add is a generator"],
    ["a class as a function", { handle, apply: { ...apply, Reset: Methods } }, "Reset is a class"],
    ["a text", { handle, apply: { ...apply, Reset: "x" } }, "Reset is no function"],
    ["an empty version", { handle, apply, version: "" }, "version"],
    ["a version that is no number", { handle, apply, version: Number.NaN }, "version"],
  ])("%s of an aggregate", (_, behaviour, message) => {
    const thrown = thrownBy(() => contract.define(behaviour as any));
    expect(thrown).toMatch(/^INVALID_DEFINITION aggregate counter/);
    expect(thrown).toContain(message);
  });

  test.each<[string, unknown, string]>([
    ["methods of a class", new Methods(), "instance of Methods"],
    ["a misspelt name", { Adedd: () => {} }, "Adedd is not declared"],
    ["two misspelt names", { Adedd: () => {}, Reste: () => {} }, "Adedd is not declared; Reste is not declared"],
    ["undefined", { Added: undefined }, "Added is undefined"],
    ["an asynchronous handler", { Added: async () => {} }, "Added is asynchronous"],
    ["an asynchronous generator", { async *Added() {} }, "Added is a generator"],
    ["a name of Object.prototype", { toString: () => {} }, "toString is not declared"],
    ["nothing", undefined, "found undefined"],
  ])("%s of a projection or a process manager", (_, handlers, message) => {
    const Counter = contract.define({ handle, apply });
    for (const [kind, define] of [
      ["projection", () => projection("p", { n: 0 }).on(Counter, handlers as any)],
      ["process manager", () => processManager("p", { dispatches: [Counter] }).on(Counter, handlers as any)],
    ] as const) {
      const thrown = thrownBy(define);
      expect(thrown.startsWith(`INVALID_DEFINITION ${kind} p`)).toBe(true);
      expect(thrown).toContain(message);
    }
  });

  test("a version of a projection or a process manager is checked, too, and startFrom", () => {
    expect(thrownBy(() => projection("p", 0, { version: "" }))).toContain("INVALID_DEFINITION projection p");
    expect(thrownBy(() => processManager("p", { dispatches: [], version: Number.NaN }))).toContain(
      "INVALID_DEFINITION process manager p",
    );
    expect(thrownBy(() => processManager("p", { dispatches: [], startFrom: "end" as any }))).toContain(
      "INVALID_DEFINITION process manager p",
    );
  });

  test("a map without a prototype, or with frozen properties, works", () => {
    const bare = Object.freeze(Object.assign(Object.create(null), apply));
    expect(contract.define({ handle, apply: bare }).type).toBe("counter");
  });
});

describe.each(backends)("what only a call shows, $backend", ({ builder }) => {
  async function failureOf(behaviour: { handle?: object; apply?: object }): Promise<string> {
    const Counter = contract.define({
      handle: { ...handle, ...behaviour.handle },
      apply: { ...apply, ...behaviour.apply },
    } as any);
    await using store = await builder().aggregate(Counter).open();
    const failure = await store
      .get(Counter, "a")
      .execute({ type: "Add", data: { by: 1 } })
      .then(
        () => "no failure",
        (error: unknown) => (isEventfoldError(error) ? `${error.code} ${error.message}` : String(error)),
      );
    expect(await store.listStreams()).toEqual([]);
    return failure;
  }

  test.each<[string, object, string]>([
    ["apply without a result", { apply: { Added() {} } }, "apply.Added of counter returned nothing"],
    ["apply with a promise", { apply: { Added: () => Promise.resolve({ n: 1 }) } }, "returned a promise"],
    ["emit without a return", { handle: { Add: (a: any) => void a.emit.Added(a.data) } }, "called emit.Added(…)"],
    ["reject without a return", { handle: { Add: (a: any) => void a.reject.Full() } }, "called reject.Full(…)"],
    [
      "reject without a return before events",
      { handle: { Add: (a: any) => (a.reject.Full(), a.emit.Added(a.data)) } },
      "called reject.Full(…)",
    ],
    [
      "one of two events",
      { handle: { Add: (a: any) => (a.emit.Added(a.data), a.emit.Added(a.data)) } },
      "called emit.Added(…)",
    ],
    [
      "an event beside a rejection",
      { handle: { Add: (a: any) => (a.emit.Reset(), a.reject.Full()) } },
      "called emit.Reset(…)",
    ],
    [
      "one of an array",
      { handle: { Add: ({ emit }: any) => [emit.Added({ by: 1 }), emit.Reset()].slice(1) } },
      "called emit.Added(…)",
    ],
    [
      "an event in a callback",
      { handle: { Add: ({ emit }: any) => [1, 2].forEach((by) => emit.Added({ by })) } },
      "called emit.Added(…)",
    ],
  ])("%s fails the command and writes nothing", async (_, behaviour, message) => {
    const failure = await failureOf(behaviour);
    expect(failure).toMatch(/^INVALID_DEFINITION/);
    expect(failure).toContain(message);
  });

  test("events of all kinds that are returned are no error", async () => {
    let kept: any;
    const Counter = contract.define({
      handle: {
        Add: ({ data, emit }) => {
          if (data.by === 1) return emit.Added(data);
          if (data.by === 2) return [emit.Added(data), emit.Reset()];
          if (data.by === 3) return { ...emit.Added(data), data: { by: 5 } };
          if (data.by === 4) return [1, 2, 3].map((by) => structuredClone(emit.Added({ by })));
          return { type: "Added", data };
        },
        Clear: (args) => {
          kept = args.emit;
          return args.state.n === 0 ? args.reject.Full() : undefined;
        },
      },
      apply,
    });
    await using store = await builder().aggregate(Counter).open();
    const a = store.get(Counter, "a");
    expect((await a.try({ type: "Clear" })).ok).toBe(false);
    kept.Added({ by: 1 });
    const counts = [];
    for (const by of [1, 2, 3, 4, 5]) counts.push((await a.execute({ type: "Add", data: { by } })).events.length);
    expect(counts).toEqual([1, 2, 1, 3, 1]);
  });

  test("a command that failed once does not disturb the next one", async () => {
    const Counter = contract.define({
      handle: {
        ...handle,
        Add: ({ data, emit }) => {
          const made = emit.Added(data);
          if (data.by < 0) throw new RangeError("negative");
          return made;
        },
      },
      apply,
    });
    await using store = await builder().aggregate(Counter).open();
    const a = store.get(Counter, "a");
    await expect(a.execute({ type: "Add", data: { by: -1 } })).rejects.toThrow(RangeError);
    expect((await a.execute({ type: "Add", data: { by: 1 } })).state).toEqual({ n: 1 });
  });
});

test("a spec fails as a store does", () => {
  const Counter = contract.define({
    handle: { Add: ({ data, emit }) => void emit.Added(data), Clear: ({ emit }) => emit.Reset() },
    apply: { ...apply, Reset: (() => undefined) as any },
  });
  expect(() =>
    spec(Counter)
      .given()
      .when(Counter.commands.Add({ by: 1 }))
      .thenNothing(),
  ).toThrow("emit.Added(…)");
  expect(() => spec(Counter).given().when({ type: "Clear" }).thenState({ n: 0 })).toThrow("returned nothing");
  spec(Counter).given().when({ type: "Clear" }).thenThrows("apply.Reset");
});

test("a stored event whose apply returns nothing fails the load", async () => {
  const storage = memory();
  const good = contract.define({ handle, apply });
  const bad = contract.define({ handle, apply: { ...apply, Added: (() => undefined) as any } });
  {
    await using store = await AggregateStore.builder(storage).aggregate(good).open();
    await store.get(good, "a").execute({ type: "Add", data: { by: 1 } });
  }
  await using store = await AggregateStore.builder(storage).aggregate(bad).open();
  await expect(store.get(bad, "a").state()).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
});
