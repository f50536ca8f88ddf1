import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

function define(type: string) {
  return aggregate(type, { initial: 0, events: { Done: data() }, commands: { Do: data() } }).define({
    handle: { Do: ({ emit }) => emit.Done() },
    apply: { Done: (n) => n + 1 },
  });
}

describe.each(backends)("definitions $backend", ({ builder }) => {
  test("with one name are an error when the store is opened", async () => {
    for (const second of [define("account"), define("Account"), Account]) {
      await expect(builder().aggregate(Account).aggregate(second).open()).rejects.toMatchObject({
        code: "DUPLICATE_DEFINITION",
      });
    }
  });

  test("with the name of a registered definition are an error", async () => {
    await using store = await builder().aggregate(Account).open();
    expect(() => store.get(define("account") as never, "a")).toThrow(
      expect.objectContaining({ code: "DUPLICATE_DEFINITION" }),
    );
  });

  test("without behaviour are an error", async () => {
    const contract = aggregate("bare", { initial: 0, events: {}, commands: {} });
    await expect(
      builder()
        .aggregate(contract as never)
        .open(),
    ).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
  });
});

describe("definitions", () => {
  test("bad wiring touches nothing on disk", async () => {
    const directory = path.join(temporaryDirectory(), "store");
    await expect(AggregateStore.builder(directory).aggregate(Account).aggregate(Account).open()).rejects.toThrow();
    expect(fs.existsSync(directory)).toBe(false);
  });

  test.each(["", "a/b", "..", ".", "a b", "-a", "a?", "%41", "x".repeat(101), "a\u0000"])(
    "the type %j is refused",
    (type) => {
      expect(() => define(type)).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }));
    },
  );

  test.each(["", "a b", "__proto__", "constructor", "then", 'a"b', "a\nb"])(
    "the message name %j is refused",
    (name) => {
      const contract = { initial: 0, events: {}, commands: {} };
      const messages = Object.fromEntries([[name, data()]]);
      for (const section of ["events", "commands", "rejections"]) {
        expect(() => aggregate("a", { ...contract, [section]: messages })).toThrow(
          expect.objectContaining({ code: "INVALID_DEFINITION" }),
        );
      }
    },
  );

  test("a missing and an undeclared function are refused", () => {
    const contract = aggregate("a", { initial: 0, events: { Done: data() }, commands: { Do: data() } });
    const handle = { Do: () => undefined };
    const apply = { Done: (n: number) => n };
    for (const behaviour of [
      { handle: {}, apply },
      { handle, apply: {} },
      { handle: { ...handle, Undo: () => undefined }, apply },
      { handle, apply: { ...apply, Undone: (n: number) => n } },
      { handle: { Do: 7 }, apply },
    ])
      expect(() => contract.define(behaviour as never)).toThrow(
        expect.objectContaining({ code: "INVALID_DEFINITION" }),
      );
  });

  test.each(["soon", "10", "10 m", "", -1, NaN, "1y"])("the idle time-out %j is refused", (timeout) => {
    expect(() => AggregateStore.builder("x").idleTimeout(timeout as never)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });
});
