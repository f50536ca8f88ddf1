import pg from "pg";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { describeNats } from "../support/nats.ts";
import { describePostgres } from "../support/postgres.ts";
import { documents, onlyBlock, readDocument, runProgram } from "./documentation.ts";

const inPostgres = "docs/guides/postgresql.md";
const inJetStream = "docs/guides/jetstream.md";
const guides = documents().filter(
  ({ path }) => path.startsWith("docs/guides/") && path !== inPostgres && path !== inJetStream,
);

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

describePostgres(`the program in ${inPostgres}`, ({ pool, schema, url }) => {
  test("prints what the guide says, and its queries work", async () => {
    const guide = readDocument(inPostgres);
    const [admin, database] = [pool(), schema()];
    await admin.query(`create database ${database}`);
    const DATABASE_URL = Object.assign(new URL(url), { pathname: `/${database}` }).href;
    const printed = await runProgram(onlyBlock(guide, "ts").code, temporaryDirectory(), { DATABASE_URL });
    expect(printed).toBe(onlyBlock(guide, "text").code);
    const client = new pg.Client({ connectionString: DATABASE_URL });
    await client.connect();
    const results = (await client.query(onlyBlock(guide, "sql").code)) as unknown as { readonly rows: unknown[] }[];
    await client.end();
    await admin.query(`drop database ${database}`);
    expect(results.map(({ rows }) => rows)).toEqual([
      [{ id: "ada", sum: "75" }],
      [{ aggregate: "account", instances: "1", events: "2" }],
      [],
    ]);
  });
});

describeNats(`the program in ${inJetStream}`, ({ urls, name }) => {
  test("prints what the guide says", async () => {
    const guide = readDocument(inJetStream);
    const code = onlyBlock(guide, "ts").code.replace('name: "bank"', `name: "${name()}"`);
    const printed = await runProgram(code, temporaryDirectory(), { NATS_URL: urls.join(",") });
    expect(printed).toBe(onlyBlock(guide, "text").code);
  });
});
