import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readDocument, ROOT } from "./documentation.ts";

const { text } = readDocument("test/README.md");
const folders = readdirSync(join(ROOT, "test"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

describe("test/README.md", () => {
  test("has a row for every folder of tests, and no other", () => {
    const rows = [...text.matchAll(/^\| `([\w-]+)\/` \|/gm)].map(([, name = ""]) => name);
    expect(rows.sort()).toEqual(folders.filter((name) => name !== "support").sort());
  });

  test("names files that exist", () => {
    const named = [...text.matchAll(/`((?:support|src)\/[\w/.-]+)`/g)].map(([, path = ""]) => path);
    expect(named.length).toBeGreaterThan(2);
    expect(named.filter((path) => !existsSync(join(ROOT, path.startsWith("src/") ? path : `test/${path}`)))).toEqual(
      [],
    );
  });

  test("lists every folder that imports from src", () => {
    const [, list = ""] = /Only (.*) may import from `src\/`/.exec(text) ?? [];
    const importing = folders.filter((name) =>
      readdirSync(join(ROOT, "test", name))
        .filter((file) => file.endsWith(".ts"))
        .some((file) => / from "(\.\.\/)+src\//.test(readFileSync(join(ROOT, "test", name, file), "utf8"))),
    );
    expect([...list.matchAll(/`([\w-]+)\/`/g)].map(([, name = ""]) => name).sort()).toEqual(importing.sort());
  });
});
