import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { onlyBlock, readDocument, runProgram } from "../docs/documentation.ts";
import { cli } from "../support/cli.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("the commands of the guide print what it says", async () => {
  const guide = readDocument("docs/guides/cli.md");
  const directory = temporaryDirectory();
  const program = onlyBlock(guide, "ts").code;
  await runProgram(program, directory);
  const model = path.join(directory, "model.ts");
  fs.writeFileSync(model, program.slice(0, program.indexOf("// main.ts")));
  const session = onlyBlock(guide, "console").code;
  let printed = "";
  for (const [, line = ""] of session.matchAll(/^\$ eventfold (.*)$/gm)) {
    const args = line
      .split(" ")
      .map((word) => (word === "./model.js" ? model : word.replace(/^\.\//, `${directory}/`)));
    const { out, err, code } = await cli(args);
    expect({ line, err, code }).toEqual({ line, err: "", code: 0 });
    printed += `$ eventfold ${line}\n${out}`;
  }
  expect(printed).toBe(session);
});
