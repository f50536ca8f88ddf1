import { aggregate, AggregateStore, data, isEventfoldError, memory, type StandardSchema } from "eventfold-es";
import { expect, test } from "vitest";
import * as z from "zod";
import { Account } from "../support/account.ts";

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable("it succeeded"),
    (error: unknown) => error,
  );
}

test("the guard gives the fields of the error with the code", async () => {
  await using store = await AggregateStore.open(memory());
  const ada = store.get(Account, "ada");
  const rejected = await failure(ada.execute(Account.commands.Close(), { expectedVersion: 5 }));
  expect(isEventfoldError(rejected, "COMMAND_REJECTED")).toBe(false);
  expect(isEventfoldError(rejected, "CONFLICT") && rejected.actualVersion).toBe(0);
  const error = await failure(ada.execute(Account.commands.Deposit({ amount: 1 })));
  expect(isEventfoldError(error) && error.code).toBe("COMMAND_REJECTED");
  expect(isEventfoldError(error, "COMMAND_REJECTED") && error.rejection.type).toBe("NotOpen");
});

test("an invalid payload lists its issues, each with its path", async () => {
  const Note = aggregate("note", {
    initial: 0,
    events: { Written: data<{ lines: readonly unknown[] }>() },
    commands: {
      Write: z.object({ title: z.string(), lines: z.array(z.object({ n: z.number() })) }),
      Raw: data<{ lines: readonly unknown[] }>(),
      Odd: oddSchema,
    },
  }).define({
    handle: {
      Write: ({ emit, data: d }) => emit.Written(d),
      Raw: ({ emit, data: d }) => emit.Written(d),
      Odd: () => {},
    },
    apply: { Written: (n) => n + 1 },
  });
  await using store = await AggregateStore.open(memory());
  const note = store.get(Note, "n");
  const issuesOf = async (command: unknown, code: "INVALID_COMMAND" | "INVALID_PAYLOAD" = "INVALID_COMMAND") => {
    const error = await failure(note.execute(command as never));
    if (!isEventfoldError(error, code)) throw error;
    return error.issues;
  };
  const bySchema = await issuesOf({ type: "Write", data: { title: 5, lines: [{ n: 1 }, { n: "2" }] } });
  expect(bySchema.map(({ path }) => path)).toEqual([["title"], ["lines", 1, "n"]]);
  expect(bySchema[0]?.message).toMatch(/string/);
  expect(await issuesOf({ type: "Raw", data: { lines: [1, { "a.b": new Date(0) }] } }, "INVALID_PAYLOAD")).toEqual([
    { message: "data.lines[1].a.b is a Date", path: ["lines", 1, "a.b"] },
  ]);
  // A path may be of objects with a key, or missing.
  expect(await issuesOf({ type: "Odd", data: 1 })).toEqual([
    { message: "here", path: ["a", 0] },
    { message: "everywhere", path: [] },
  ]);
});

const oddSchema: StandardSchema<unknown> = {
  "~standard": {
    version: 1,
    vendor: "odd",
    validate: () => ({ issues: [{ message: "here", path: [{ key: "a" }, 0] }, { message: "everywhere" }] }),
  },
};
