import { expect, test } from "vitest";
import { describePrivatePostgres } from "../support/postgres.ts";
import { soakPostgres } from "../support/soak-postgres.ts";

describePrivatePostgres("processes that write to PostgreSQL", () => {
  test("lose and double nothing when the server and they are killed; `npm run soak:postgres` goes on for longer", async () => {
    const report = await soakPostgres({ seconds: 4 });
    expect(Object.values(report.failures).reduce((sum, count) => sum + count)).toBeGreaterThan(2);
    expect(report.acknowledged).toBeGreaterThan(0);
  });
});
