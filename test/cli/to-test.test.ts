import { AggregateStore } from "eventfold-es";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { cli } from "../support/cli.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const ROOT = path.join(import.meta.dirname, "../..");
const VITEST = path.join(ROOT, "node_modules/vitest/vitest.mjs");
const CONDITION = "--conditions=eventfold-es-source";

const MODEL = `
import { projection } from "eventfold-es";
import { Account } from "./account.ts";
export { Account };
export const Totals = projection("totals", { total: 0 }).on(Account, {
  Deposited: (state, { data, position }) => ({ total: state.total + data.amount, position }),
});
`;

const VITEST_CONFIG = `
const conditions = ["eventfold-es-source", "module", "node"];
export default { resolve: { conditions }, ssr: { resolve: { conditions } } };
`;

/** A project with a model, a store, and the library. */
async function project(): Promise<string> {
  const directory = temporaryDirectory();
  fs.mkdirSync(path.join(directory, "node_modules"));
  for (const [name, target] of [
    ["eventfold-es", ROOT],
    ["vitest", path.join(ROOT, "node_modules/vitest")],
  ] as const)
    fs.symlinkSync(target, path.join(directory, "node_modules", name), "dir");
  fs.writeFileSync(path.join(directory, "package.json"), '{ "type": "module" }');
  fs.copyFileSync(path.join(ROOT, "test/support/account.ts"), path.join(directory, "account.ts"));
  fs.writeFileSync(path.join(directory, "model.ts"), MODEL);
  await using store = await AggregateStore.builder(path.join(directory, "data")).aggregate(Account).open();
  for (const id of ["ada", 'b"ob']) await store.get(Account, id).execute(Account.commands.Open({ owner: id }));
  for (const amount of [5, 7]) await store.get(Account, "ada").execute(Account.commands.Deposit({ amount }));
  return directory;
}

/** How the file ends under node's runner and under Vitest. */
function run(directory: string): {
  readonly node: number | null;
  readonly vitest: number | null;
  readonly output: string;
} {
  const env = { PATH: process.env["PATH"] ?? "", NO_COLOR: "1" };
  const tsx = ["--import", path.join(ROOT, "node_modules/tsx/dist/loader.mjs"), CONDITION];
  const options = { cwd: directory, env, encoding: "utf8" } as const;
  const node = spawnSync(process.execPath, [...tsx, "--test", "store.test.ts"], options);
  fs.writeFileSync(path.join(directory, "vitest.config.mjs"), VITEST_CONFIG);
  const vitest = spawnSync(process.execPath, [VITEST, "run"], options);
  return {
    node: node.status,
    vitest: vitest.status,
    output: node.stdout + node.stderr + vitest.stdout + vitest.stderr,
  };
}

test("to-test makes a file that passes under node's runner and Vitest, and fails with another model", async () => {
  const directory = await project();
  const at = (name: string): string => path.join(directory, name);
  const args = ["to-test", at("data"), "--app", at("model.ts"), "-o", at("store.test.ts")];
  expect(await cli(args)).toMatchObject({ code: 0, err: "" });
  const whole = run(directory);
  expect(whole, whole.output).toMatchObject({ node: 0, vitest: 0 });
  expect(await cli(args)).toMatchObject({ code: 2, err: expect.stringContaining("found one") as string });

  const account = fs.readFileSync(at("account.ts"), "utf8");
  fs.writeFileSync(at("account.ts"), account.replace("s.balance + amount", "s.balance - amount"));
  const broken = run(directory);
  expect(broken.output).toContain("account ada");
  expect(broken, broken.output).toMatchObject({ node: 1, vitest: 1 });
});

test("an interval has the instances with events in it", async () => {
  const directory = await project();
  const { out } = await cli([
    "to-test",
    path.join(directory, "data"),
    "--app",
    path.join(directory, "model.ts"),
    "--from",
    "3",
    "--to",
    "3",
  ]);
  expect(out).toContain('test("account ada"');
  expect(out).not.toContain('test("account b');
  expect(out).toContain('"balance": 5');
});
