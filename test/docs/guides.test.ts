import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { documents, onlyBlock, runProgram } from "./documentation.ts";

const guides = documents().filter(({ path }) => path.startsWith("docs/guides/"));

test("the guides are found", () => {
  expect(guides.map(({ path }) => path)).toContain("docs/guides/projections.md");
});

describe.each(guides.map((guide) => [guide.path, guide] as const))("the program in %s", (_, guide) => {
  test("prints what the guide says", async () => {
    expect(await runProgram(onlyBlock(guide, "ts").code, temporaryDirectory())).toBe(onlyBlock(guide, "text").code);
  });
});

test("the program in docs/guides/subscriptions.md sends no mail twice across restarts", async () => {
  const guide = guides.find(({ path }) => path.endsWith("subscriptions.md"));
  const directory = temporaryDirectory();
  const code = guide === undefined ? "" : onlyBlock(guide, "ts").code;
  await runProgram(code, directory);
  const loop = "// A loop";
  const second =
    code.slice(0, code.indexOf(loop)) + code.slice(code.indexOf("// A handler")).replace("await mailed;", "");
  expect(await runProgram(second, directory)).toBe("");
});
