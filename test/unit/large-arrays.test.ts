import { aggregate, data } from "eventfold-es";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "../docs/documentation.ts";
import { backends } from "../support/backends.ts";

/** More than a call takes as arguments, on every version of Node.js. */
const MANY = 300_000;

const Tally = aggregate("tally", {
  initial: 0,
  events: { Counted: data() },
  commands: { Count: data<{ times: number }>() },
}).define({
  handle: { Count: ({ data: { times }, emit }) => Array.from({ length: times }, () => emit.Counted()) },
  apply: { Counted: (count) => count + 1 },
});

// They do not fit into a message of NATS.
const roomy = backends.filter(({ backend }) => backend !== "in JetStream");

describe.each(roomy)("300,000 events $backend", ({ builder }) => {
  test("of one command", async () => {
    await using store = await builder().aggregate(Tally).open();
    const { state, version, events } = await store
      .get(Tally, "a")
      .execute({ type: "Count", data: { times: MANY } }, { idempotencyKey: "k" });
    expect([state, version, events.length]).toEqual([MANY, MANY, MANY]);
  });

  test("of one dispatchAll", async () => {
    await using store = await builder().aggregate(Tally).open();
    const half = Tally.at("a").Count({ times: MANY / 2 });
    const { results } = await store.dispatchAll([half, Tally.at("b").Count({ times: 1 }), half]);
    expect(results.map(({ version }) => version)).toEqual([MANY / 2, 1, MANY]);
  });
});

test("no call in the sources spreads a list of unknown length into arguments", () => {
  const calls = /\b(?:push|unshift|concat|splice|max|min|fromCharCode|of)\((?:[^(){}\n]*,\s*)?\.\.\./;
  const files = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  expect(files.length).toBeGreaterThan(100);
  const found = files.flatMap((file) =>
    readFileSync(join(ROOT, "src", file), "utf8")
      .split("\n")
      .map((line, index) => ({ line: line.trim(), where: `${file}:${index + 1}` }))
      .filter(({ line }) => !/^(\/?\*|\/\/)/.test(line) && calls.test(line)),
  );
  expect(found).toEqual([]);
});
