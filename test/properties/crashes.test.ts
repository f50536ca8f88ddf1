import { AggregateStore, type CommandOf, memory, type RecordedEvent } from "eventfold-es";
import { diskAfterKill, disksAfterPowerCut, SimulatedDisk } from "eventfold-es/testing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";

type Command = Exclude<CommandOf<typeof Account>, { readonly type: "Crash" }>;
type Step =
  | { readonly kind: "command"; readonly id: string; readonly command: Command }
  | { readonly kind: "reopen" | "kill" }
  | { readonly kind: "power cut"; readonly seed: number };

const IDS = ["ada", "bob", "c/d"];

const amount = fc.integer({ min: 1, max: 9 });
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.constant<Command>({ type: "Open", data: { owner: "x" } }),
  amount.map<Command>((n) => ({ type: "Deposit", data: { amount: n } })),
  amount.map<Command>((n) => ({ type: "Withdraw", data: { amount: n } })),
  fc.array(amount, { maxLength: 3 }).map<Command>((amounts) => ({ type: "Split", data: { amounts } })),
  fc.constant<Command>({ type: "Close" }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("command"), id: fc.constantFrom(...IDS), command }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reopen", "kill") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("power cut"), seed: fc.nat() }) },
);

function open(disk: SimulatedDisk) {
  return AggregateStore.builder("/store").aggregate(Account).fileSystem(disk).open();
}

/** Everything that a user can see, except values that differ from run to run. */
async function history(store: Awaited<ReturnType<typeof open>>): Promise<unknown> {
  const events: RecordedEvent[] = [];
  for (const id of IDS) events.push(...(await collect(store.readEvents("account", id))));
  const states = await Promise.all(IDS.map((id) => store.get(Account, id).state()));
  return {
    states,
    list: await store.list(Account),
    events: events.map(({ id, type, data, version, position }) => ({ id, type, data, version, position })),
  };
}

/** The disk as the next process finds it. */
function after(disk: SimulatedDisk, each: Exclude<Step, { readonly kind: "command" }>): SimulatedDisk {
  if (each.kind !== "power cut") return diskAfterKill(disk);
  const disks = [...disksAfterPowerCut(disk, { maxDisks: 5, seed: each.seed })].map((found) => found.disk);
  return disks[each.seed % disks.length] ?? disk;
}

test("a store on disk that crashes between commands has the history of one in memory", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      let disk = new SimulatedDisk();
      let onDisk = await open(disk);
      await using inMemory = await AggregateStore.builder(memory()).aggregate(Account).open();
      const dead: (typeof onDisk)[] = [];
      for (const each of steps) {
        if (each.kind === "command") {
          const attempts = await Promise.all(
            [onDisk, inMemory].map((store) => store.get(Account, each.id).try(each.command)),
          );
          const [a, b] = attempts.map(({ ok }) => ok);
          expect(a).toBe(b);
          continue;
        }
        if (each.kind === "reopen") await onDisk.close();
        else dead.push(onDisk);
        disk = after(disk, each);
        onDisk = await open(disk);
        expect(await history(onDisk)).toEqual(await history(inMemory));
      }
      expect(await history(onDisk)).toEqual(await history(inMemory));
      await onDisk.close();
      for (const store of dead) await store.close();
    }),
    { numRuns: 60 },
  );
});
