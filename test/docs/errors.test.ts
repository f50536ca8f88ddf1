import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readDocument, ROOT } from "./documentation.ts";

describe("docs/errors.md", () => {
  const source = readFileSync(join(ROOT, "src/errors.ts"), "utf8");
  const union = /export type ErrorCode =([^;]+);/.exec(source)?.[1] ?? "";
  const codes = [...union.matchAll(/"([A-Z_]+)"/g)].map(([, code = ""]) => code);
  const sections = readDocument("docs/errors.md").text.split(/^## /m).slice(1);
  const documented = sections
    .map((section) => /^`([A-Z_]+)`\n/.exec(section)?.[1])
    .filter((code) => code !== undefined);

  test("lists codes that the source defines", () => {
    expect(codes).toContain("CONFLICT");
    expect(codes.length).toBe(union.split("|").length - 1);
  });

  test("has one heading for every code, in the order of the source", () => {
    expect(documented).toEqual(codes);
  });

  test("explains each code and what to do", () => {
    for (const section of sections.filter((text) => text.startsWith("`"))) {
      expect(section).toMatch(/\n\*\*What to do\.\*\* \S/);
    }
  });
});
