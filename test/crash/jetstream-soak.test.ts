import { expect, test } from "vitest";
import { describePrivateNats } from "../support/nats.ts";
import { soakJetStream } from "../support/soak-jetstream.ts";

describePrivateNats("processes that write to JetStream", () => {
  test("lose and double nothing when servers and they are killed; `npm run soak:jetstream` goes on for longer", async () => {
    const kinds = ["kill leader", "kill writer", "kill follower", "kill all"] as const;
    const report = await soakJetStream({ seconds: 8, failures: kinds });
    expect(Object.values(report.failures).reduce((sum, count) => sum + count)).toBeGreaterThan(2);
    expect(report.acknowledged).toBeGreaterThan(0);
    expect(report.replicas).toBe(4);
    expect(report.leaders).toBeGreaterThan(1);
  });

  test("lose and double nothing when the leader is cut off from its peers", async () => {
    const report = await soakJetStream({ seconds: 1, failures: ["cut off leader"] });
    expect(report.failures["cut off leader"]).toBeGreaterThan(0);
    expect(report.acknowledged).toBeGreaterThan(0);
  });
});
