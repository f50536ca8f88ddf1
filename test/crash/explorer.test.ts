import { describe, expect, test } from "vitest";
import { AggregateStore } from "eventfold-es";
import { CrashError, checkInvariants, type CrashScenario, exploreCrashes } from "eventfold-es/testing";
import { Account } from "../support/account.ts";
import { WORKLOADS } from "../support/crash-workloads.ts";

/** Disks for each kind; `npm run test:crash` examines many more. */
const DISKS = 100;

describe("the store survives a power cut at every step of", () => {
  for (const { kind, scenario } of WORKLOADS) {
    test(kind, async () => {
      const report = await exploreCrashes({
        ...(scenario(1) as unknown as CrashScenario<never>),
        seed: 1,
        maxDisks: DISKS,
      });
      expect(report.disks).toBeGreaterThan(DISKS / 3);
      expect(report.nested).toBeGreaterThan(0);
    });
  }
});

describe("a user's own scenario", () => {
  const open: CrashScenario<AggregateStore<typeof Account>>["open"] = (fileSystem) =>
    AggregateStore.builder("/store")
      .aggregate(Account)
      .fileSystem(fileSystem)
      .clock(() => 1_700_000_000_000)
      .open();

  test("consists of a workload and a check", async () => {
    const report = await exploreCrashes({
      open,
      workload: async ({ store, commit }) => {
        const ada = store.get(Account, "ada");
        await commit((context) => ada.execute(Account.commands.Open({ owner: "Ada" }), context));
        await commit((context) => ada.execute(Account.commands.Split({ amounts: [1, 2, 3] }), context), 3);
      },
      check: async ({ store, ...remains }) => {
        const { balance } = await store.get(Account, "ada").state();
        if (balance !== 0 && balance !== 6) throw new Error(`half of a commit: ${balance}`);
        return checkInvariants({ store, ...remains });
      },
      maxDisks: 100,
    });
    expect(report).toMatchObject({ violations: 0 });
    expect(report.disks).toBeGreaterThan(20);
  });

  test("can repeat a failing disk by its seed and name", async () => {
    const scenario: CrashScenario<AggregateStore<typeof Account>> = {
      open,
      workload: async ({ store, commit }) => {
        const ada = store.get(Account, "ada");
        await commit((context) => ada.execute(Account.commands.Open({ owner: "Ada" }), context));
      },
      check: async ({ store }) => {
        if ((await store.get(Account, "ada").state()).open) throw new Error("Ada is there");
      },
      seed: "a seed",
      maxDisks: 100,
    };
    const error = await exploreCrashes(scenario).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(CrashError);
    if (!(error instanceof CrashError)) return;
    expect(error.message).toContain("Ada is there");
    await expect(exploreCrashes({ ...scenario, only: error.only })).rejects.toThrow(error.message);
  });
});
