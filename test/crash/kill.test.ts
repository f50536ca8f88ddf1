import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { allLines, holes, linesOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Worker } from "../support/worker.ts";

const INSTANCES = 8;

/** The payload of one command's events: the command's name, and how many events it has. */
interface CommandMetadata {
  readonly command: string;
  readonly size: number;
}

/** Runs a worker until it has acknowledged so many commands, then kills it. Returns the acknowledged commands. */
async function killAfter(
  directory: string,
  run: string,
  acknowledged: number,
  durability: "flush" | "os",
): Promise<string[]> {
  const output = path.join(temporaryDirectory(), "acknowledged");
  const descriptor = fs.openSync(output, "w");
  const worker = new Worker(
    "storm-worker.ts",
    { directory, run, instances: INSTANCES, commands: 1000, durability },
    descriptor,
  );
  fs.closeSync(descriptor);
  const deadline = Date.now() + 20_000;
  // "a-1 r12-345\n" is about 12 bytes.
  while (fs.statSync(output).size < acknowledged * 12 && worker.process.exitCode === null && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
  await worker.kill();
  expect(worker.errors).toBe("");
  // The last line may be cut off: an incomplete line does not count as printed.
  const text = fs.readFileSync(output, "utf8");
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1);
}

/** Reopens a store, checks that it holds all acknowledged commands and no part of another, and closes it. */
async function check(directory: string, acknowledged: readonly string[]): Promise<void> {
  const started = performance.now();
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  // If a lock outlived its process, opening would wait 30 s for it.
  expect(performance.now() - started).toBeLessThan(20_000);

  const found = new Set<string>();
  const positions: number[] = [];
  for (const id of await store.list(Account)) {
    const events = await collect(store.get(Account, id).events());
    expect(events.findIndex(({ version }, i) => version !== i + 1)).toBe(-1);
    positions.push(...events.map(({ position }) => position));
    for (let i = 0; i < events.length;) {
      const { command, size } = (events[i]?.metadata ?? {}) as Partial<CommandMetadata>;
      if (command === undefined) {
        expect(events[i]?.type).toBe("Opened");
        i++;
        continue;
      }
      const whole = events.slice(i, i + (size ?? 0));
      expect(whole.map(({ metadata }) => metadata["command"])).toEqual(Array(size).fill(command));
      expect(found.has(`${id} ${command}`)).toBe(false);
      found.add(`${id} ${command}`);
      i += size ?? 1;
    }
    const deposited = events.filter(({ type }) => type === "Deposited").length;
    expect((await store.get(Account, id).state()).balance).toBe(deposited);
  }
  expect(holes(positions, positions.length)).toBeUndefined();
  expect(acknowledged.filter((command) => !found.has(command))).toEqual([]);
  await store.close();
  expect(allLines(directory)).toHaveLength(positions.length);
  const registered = linesOf(path.join(directory, "meta", "streams.jsonl"));
  expect(new Set(registered).size).toBe(registered.length);
}

describe("a killed process", () => {
  // Each of the 25 processes compiles TypeScript, which is slow on a busy machine.
  test(
    "leaves every acknowledged command and no part of another, 20 times over the same directory",
    { timeout: 300_000 },
    async () => {
      const directory = temporaryDirectory();
      const acknowledged: string[] = [];
      for (let run = 0; run < 20; run++) {
        // Every fourth time, two processes work and die at different moments.
        const processes = run % 4 === 3 ? 2 : 1;
        const runs = Array.from({ length: processes }, (_, n) =>
          killAfter(directory, `r${run}${"xy"[n] ?? ""}`, 1 + Math.random() * 400, "flush"),
        );
        for (const commands of await Promise.all(runs)) acknowledged.push(...commands);
        await check(directory, acknowledged);
      }
      expect(acknowledged.length).toBeGreaterThan(500);
    },
  );

  test('leaves every command that was acknowledged in mode "os"', async () => {
    const directory = temporaryDirectory();
    const acknowledged: string[] = [];
    for (let run = 0; run < 5; run++) {
      acknowledged.push(...(await killAfter(directory, `r${run}`, 1 + Math.random() * 400, "os")));
      await check(directory, acknowledged);
    }
    expect(acknowledged.length).toBeGreaterThan(5);
  });
});
