import { aggregate, AggregateStore, data, memory, processManager, projection, type StandardSchema } from "eventfold-es";
import { spec } from "eventfold-es/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../support/until.ts";

/** Rejections that nothing handled; each of them would end a program. */
const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeAll(() => void process.on("unhandledRejection", note));
afterAll(async () => {
  await new Promise((resolve) => setTimeout(resolve, 10));
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});

const failed = new Error("it failed later");

/** Promises, some of them without `catch`, without a result of `then`, or not even an object. */
const promises: { readonly kind: string; readonly make: () => unknown }[] = [
  { kind: "a rejected promise", make: () => Promise.reject(failed) },
  // oxlint-disable-next-line unicorn/no-thenable -- that is what is tested
  { kind: "an object with nothing but then", make: () => ({ then: (done: (value: number) => void) => done(1) }) },
  {
    kind: "an object whose then fails",
    // oxlint-disable-next-line unicorn/no-thenable -- that is what is tested
    make: () => ({ then: (_: unknown, fail: (error: unknown) => void) => fail(failed) }),
  },
  {
    kind: "an object whose then throws",
    make: () => ({
      // oxlint-disable-next-line unicorn/no-thenable -- that is what is tested
      then: () => {
        throw failed;
      },
    }),
  },
  {
    kind: "a function with then",
    // oxlint-disable-next-line unicorn/no-thenable -- that is what is tested
    make: () => Object.assign(() => 1, { then: (done: (value: number) => void) => done(1) }),
  },
];

type Schema = StandardSchema<number>;
const schema = (validate: (value: unknown) => unknown): Schema => ({
  "~standard": { version: 1, vendor: "test", validate: validate as Schema["~standard"]["validate"] },
});

interface Parts {
  readonly initial?: unknown;
  readonly handle?: (given: {
    readonly data: number;
    readonly emit: { readonly Done: (n: number) => unknown };
  }) => unknown;
  readonly apply?: (state: unknown, n: number) => unknown;
  readonly command?: Schema;
  readonly event?: Schema;
}

function jobOf({ initial = 0, handle, apply, command, event }: Parts) {
  return aggregate("job", {
    initial: initial as number,
    events: { Done: event ?? data<number>() },
    commands: { Do: command ?? data<number>() },
  }).define({
    handle: { Do: (handle ?? (({ emit }: { emit: { Done: (n: number) => unknown } }) => emit.Done(1))) as never },
    apply: { Done: (apply ?? (() => 1)) as never },
  });
}

describe.each(promises)("$kind", ({ make }) => {
  const refused: readonly [string, Parts][] = [
    ["an initial state", { initial: make }],
    ["a result of handle", { handle: make }],
    ["a result of apply", { apply: make }],
    ["a checked payload of an event", { event: schema(make) }],
    ["a checked payload of a command", { command: schema(make) }],
  ];
  test.each(refused)("is refused as %s", async (_, parts) => {
    await using store = await AggregateStore.open(memory());
    const run = async () => store.get(jobOf(parts), "a").execute({ type: "Do", data: 1 });
    await expect(run()).rejects.toMatchObject({
      code: expect.stringMatching(/^INVALID_(DEFINITION|DECISION)$/),
    });
    expect(await store.head()).toBe(0);
  });

  test("is refused as the state of a projection and as a reaction", async () => {
    const Job = jobOf({});
    const Sum = projection("sum", 0).on(Job, { Done: make as never });
    const Echo = processManager("echo", { dispatches: [Job] }).on(Job, { Done: make as never });
    await using store = await AggregateStore.builder(memory())
      .aggregate(Job)
      .projection(Sum)
      .processManager(Echo)
      .processManagerMode("manual")
      .open();
    await store.get(Job, "a").execute({ type: "Do", data: 1 });
    await expect(store.projection(Sum)).rejects.toMatchObject({ code: "PROJECTION_FAILED" });
    await expect(store.runProcessManagers()).rejects.toMatchObject({ code: "PROCESS_MANAGER_FAILED" });
  });

  test("is refused as the result of an upcaster", async () => {
    const storage = memory();
    const before = await AggregateStore.open(storage);
    await before.get(jobOf({}), "a").execute({ type: "Do", data: 1 });
    await before.close();
    const Job = aggregate("job", {
      initial: 0,
      events: { Done: data<number>().to<number>(make as never) },
      commands: { Do: data<number>() },
    }).define({ handle: { Do: () => undefined }, apply: { Done: (n) => n + 1 } });
    await using store = await AggregateStore.open(storage);
    await expect(store.get(Job, "a").state()).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
  });

  test("may be what a listener of errors returns", async () => {
    const Job = jobOf({});
    let told = 0;
    const Broken = processManager("broken", { dispatches: [Job] }).on(Job, {
      Done: () => {
        throw new Error("a bug");
      },
    });
    const listener = (): void => {
      told++;
      return make() as void;
    };
    await using store = await AggregateStore.builder(memory())
      .aggregate(Job)
      .processManager(Broken)
      .onProcessManagerError(listener)
      .open();
    const subscription = store.subscribe({ onError: listener }, () => {
      throw new Error("a bug");
    });
    await store.get(Job, "a").execute({ type: "Do", data: 1 });
    await until(() => told >= 4);
    await subscription.close();
  });
});

test("a schema that answers later only to values that fit it is refused at the first of them", async () => {
  const Job = jobOf({ command: schema((value) => (value === 1 ? Promise.reject(failed) : { issues: [] })) });
  await using store = await AggregateStore.open(memory());
  const code = "INVALID_DEFINITION";
  await expect(store.get(Job, "a").execute({ type: "Do", data: 1 })).rejects.toMatchObject({ code });
  await expect(store.dispatch(Job.at("a").Do(1))).rejects.toMatchObject({ code });
  expect(() => spec(Job).given().when({ type: "Do", data: 1 }).thenEvents()).toThrow("asynchronous schema");
  expect(await store.head()).toBe(0);
});
