import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runProgram } from "../docs/documentation.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const program = readFileSync(new URL("../../examples/counter/main.ts", import.meta.url), "utf8");

test("example: the counters print what they do, and continue in the next run", async () => {
  const directory = temporaryDirectory();
  expect(await runProgram(program, directory)).toBe(printed({ apples: 3, plums: 7, resets: 1, version: 1 }));
  expect(await runProgram(program, directory)).toBe(printed({ apples: 6, plums: 14, resets: 2, version: 2 }));
});

function printed({ apples, plums, resets, version }: Readonly<Record<string, number>>): string {
  return `The store is in data/counter.

A handle sends commands to one instance:
  apples: Increase by 3 → ${apples}, version ${version}
A rejection is a value. It writes nothing:
  apples: Decrease by 1000 → BelowZero
The bus finds the aggregate by the type of the command, and calls its middleware:
  pears: Increase
  plums: Increase
  pears: Reset
The process manager has counted the reset, and the projection has seen everything:
  apples: ${apples}
  pears: 0
  plums: ${plums}
  resets: ${resets}

Run it again: the counters continue from here.
`;
}
