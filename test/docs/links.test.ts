import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Document, documents, readDocument, ROOT } from "./documentation.ts";

/** The anchors of a document's headings, as forges make them. */
function anchors({ text }: Document): Set<string> {
  const headings = text.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ +(.+)$/gm);
  return new Set(
    [...headings].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

const readmes = readdirSync(join(ROOT, "examples"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(join(ROOT, "examples", entry.name, "README.md")))
  .map(({ name }) => readDocument(`examples/${name}/README.md`));
const linking = [...documents(), ...readmes, readDocument("test/README.md")];

describe.each(linking.map((document) => [document.path, document] as const))("links of %s", (path, document) => {
  const text = document.text.replaceAll(/^```[\s\S]*?^```$/gm, "");
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);

  test("lead to files and headings that exist", () => {
    const broken = links.filter((link) => {
      if (/^[a-z]+:/.test(link)) return false;
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? path : join(dirname(path), file);
      if (!existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchors(readDocument(target)).has(anchor);
    });
    expect(broken).toEqual([]);
  });
});

test("each decision has a number of its own, in its name and in its heading", () => {
  const decisions = documents().filter(({ path }) => path.startsWith("docs/decisions/"));
  const numbers = decisions.map(({ path }) => path.slice("docs/decisions/".length).split("-")[0]);
  expect(numbers).toEqual(decisions.map((_, index) => String(index + 1).padStart(3, "0")));
  expect(decisions.map(({ text }) => /^# (\d+): /.exec(text)?.[1])).toEqual(numbers);
});
