import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { codeBlocks, onlyBlock, readDocument, runProgram } from "./documentation.ts";

describe("the program in README.md", () => {
  const readme = readDocument("README.md");
  const program = onlyBlock(readme, "ts").code;
  const printed = codeBlocks(readme).find(({ language }) => language === "text")?.code;
  const documentedLine = onlyBlock(readme, "jsonl").code;

  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "readme-"));
    return () => rm(directory, { recursive: true, force: true });
  });

  test("prints what the README says, and continues where it stopped", async () => {
    expect(await runProgram(program, directory)).toBe(printed);
    expect(await runProgram(program, directory)).toBe("{ balance: 1 }\n{ balance: 1 }\n");
  });

  test("leaves the files that the README shows", async () => {
    await runProgram(program, directory);
    expect(readdirSync(join(directory, "bank")).sort()).toEqual(["commit_log", "meta", "streams"]);
    const lines = readFileSync(join(directory, "bank/streams/account/ada/app.jsonl"), "utf8");
    const general = (text: string): string =>
      text
        .replace(/"ts":\d+/, '"ts":0')
        .replace(/"ms":\d+/, '"ms":0')
        .replace(/"id":"[^"]+"/, '"id":""');
    expect(general(lines)).toBe(general(documentedLine));
  });
});
