import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "./documentation.ts";
import { AVOIDED, type AvoidedWording } from "./wording.ts";

/** Folders and files whose text is checked: documents, comments, messages and test titles. */
const CHECKED = [
  "README.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "docs",
  "bench",
  "examples",
  "scripts",
  "src",
  "test",
];
const SKIPPED =
  /(^|\/)(node_modules|\.[a-z]+|fixtures|data)(\/|$)|^test\/docs\/(wording|prose\.test)\.ts$|^bench\/package-lock\.json$/;

function textFiles(path: string): string[] {
  if (/\.(md|ts|mjs)$/.test(path)) return [path];
  return readdirSync(join(ROOT, path), { withFileTypes: true })
    .map((entry) => ({ path: `${path}/${entry.name}`, directory: entry.isDirectory() }))
    .filter((entry) => !SKIPPED.test(entry.path) && (entry.directory || /\.(md|ts|mjs)$/.test(entry.path)))
    .flatMap((entry) => (entry.directory ? textFiles(entry.path) : [entry.path]));
}

/** The places of avoided wording in a text, as `line: words (use …)`. */
function avoidedIn(text: string, avoided: readonly AvoidedWording[] = AVOIDED): string[] {
  // A sentence may go on in the next line of a comment; blanks keep the offsets.
  const joined = text.replaceAll(/\n[ \t]*(\/\/|\/?\*+\/?|>)?/g, (start) => `\n${" ".repeat(start.length - 1)}`);
  return avoided.flatMap(({ words, instead, exact }) =>
    [...joined.matchAll(new RegExp(words.source.replaceAll(" ", "\\s+"), exact ? "gm" : "gim"))].map(
      ({ 0: found, index }) => {
        const line = text.slice(0, index).split("\n").length;
        return `${line}: ${found.trim().replaceAll(/\s+/g, " ").slice(0, 60)} (use: ${instead})`;
      },
    ),
  );
}

describe("the check of wording", () => {
  test.each(AVOIDED)("finds $example", (avoided) => {
    expect(avoidedIn(avoided.example, [avoided])).toHaveLength(1);
    expect(avoidedIn(`/**\n * Text before it.\n * ${avoided.example}\n */`, [avoided])).toHaveLength(1);
  });

  test("finds words across the lines of a comment, and names the line", () => {
    expect(avoidedIn("first\n  // bytes behind\n  // the last line")).toEqual(["2: behind the (use: after)"]);
  });

  test.each([
    "What is a snapshot?",
    "## What to do",
    "The doctor reports what is lost.",

    "to be told apart",
  ])("accepts %j", (text) => {
    expect(avoidedIn(text)).toEqual([]);
  });
});

test("text has no wording that the project avoids", () => {
  const files = CHECKED.flatMap(textFiles);
  expect(files.length).toBeGreaterThan(50);
  expect(
    files.flatMap((path) => avoidedIn(readFileSync(join(ROOT, path), "utf8")).map((found) => `${path}:${found}`)),
  ).toEqual([]);
});
