import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { link, projectWithPackage, putAsJavaScript, ROOT } from "./installed-package.ts";

/** Projects of a user's, with the package installed from its tarball, whose suites run under other test runners and in their realms. */
describe("the packed package", () => {
  let project: string;
  let remove = (): void => {};

  beforeAll(() => {
    ({ project, remove } = projectWithPackage());
    link(project, "vitest");
    putAsJavaScript("test/support/whole-program.ts", path.join(project, "whole-program.cjs"), "cjs");
    putAsJavaScript("test/support/whole-program.ts", path.join(project, "whole-program.mjs"), "esm");
  });

  afterAll(() => remove());

  function runSuite(
    args: readonly string[],
    nodeOptions = "",
  ): { readonly status: number | null; readonly output: string } {
    const env = { ...process.env, NODE_OPTIONS: nodeOptions, CI: "true", NO_COLOR: "1" };
    for (const name of Object.keys(env))
      if (/^(VITEST|JEST|FORCE_COLOR)/.test(name)) delete env[name as keyof typeof env];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: project, env, encoding: "utf8" });
    return { status, output: `${stdout}\n${stderr}` };
  }

  function expectPassed({ status, output }: ReturnType<typeof runSuite>, count: number): void {
    expect(status, output).toBe(0);
    expect(output).toMatch(new RegExp(`Tests:? .*\\b${count} passed`));
  }

  test("can be imported and required by each of its names", () => {
    const { exports } = JSON.parse(fs.readFileSync(path.join(ROOT, "package.json"), "utf8")) as { exports: object };
    const names = Object.keys(exports).map((entry) => path.posix.join("eventfold-es", entry));
    expect(names).toContain("eventfold-es/testing");
    const program =
      `for (const name of ${JSON.stringify(names)}) { const required = require(name); ` +
      `import(name).then((imported) => { for (const key of Object.keys(required)) if (!(key in imported)) throw new Error(name + " " + key); }); }`;
    const { status, output } = runSuite(["--eval", program]);
    expect(status, output).toBe(0);
  });

  test("brings the command eventfold, which needs no other package", () => {
    const main = path.join(project, "node_modules/eventfold-es/dist/cli/main.js");
    expect(runSuite([main, "--version"])).toMatchObject({
      status: 0,
      output: expect.stringMatching(/^\d+\.\d+\.\d+$/m) as string,
    });
    const program = `require("eventfold-es").AggregateStore.open("./store").then((store) => store.close())`;
    expect(runSuite(["--eval", program]).status).toBe(0);
    expect(runSuite([main, "stats", "./store"])).toMatchObject({
      status: 0,
      output: expect.stringContaining("head     0") as string,
    });
    expect(runSuite([main, "stats", "./nothing"]).status).toBe(3);
  });

  const jest = path.join(ROOT, "node_modules/jest/bin/jest.js");
  const jestConfig = (more: object): string =>
    JSON.stringify({ rootDir: project, transform: {}, testTimeout: 60_000, testMatch: ["**/jest/*.test.js"], ...more });

  test("works under Jest, without flags", () => {
    fs.cpSync(path.join(ROOT, "test/package/projects/jest"), path.join(project, "jest"), { recursive: true });
    fs.copyFileSync(path.join(project, "whole-program.cjs"), path.join(project, "jest/whole-program.cjs"));
    expectPassed(runSuite([jest, "--config", jestConfig({})]), 6);
  });

  test("works under Jest with its timers replaced everywhere", () => {
    expectPassed(runSuite([jest, "--config", jestConfig({ fakeTimers: { enableGlobally: true } })]), 6);
  });

  test.each(["vmThreads", "vmForks", "threads"])("works in Vitest's pool %s", (pool) => {
    const folder = path.join(project, "vitest");
    fs.cpSync(path.join(ROOT, "test/package/projects/vitest"), folder, { recursive: true });
    fs.copyFileSync(path.join(project, "whole-program.mjs"), path.join(folder, "whole-program.mjs"));
    const vitest = path.join(ROOT, "node_modules/vitest/vitest.mjs");
    expectPassed(runSuite([vitest, "run", "--root", folder, "--pool", pool, "--testTimeout=60000"]), 3);
  });
});
