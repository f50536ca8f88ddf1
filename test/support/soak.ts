import { type ChildProcess, spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { AggregateStore, type RecordedEvent } from "eventfold-es";
import { checkEvents, checkStoreFiles, type TrackedCommit } from "eventfold-es/testing";
import { Account } from "./account.ts";
import { compileSources } from "./compiled-sources.ts";
import { filesOf } from "./store-files.ts";

const MODULES = ["account", "worker-input", "soak-writer-worker", "soak-reader-worker"].map(
  (name) => `test/support/${name}.ts`,
);
const INSTANCES = 12;
/** How long a reader may take to reach the end. */
const PATIENCE_MS = 60_000;

export interface SoakOptions {
  /** An empty directory. */
  readonly directory: string;
  readonly seconds: number;
  /** Processes that write at the same time. Default: 3. */
  readonly writers?: number;
}

export interface SoakReport {
  /** Processes that were killed, and how many of them before their first acknowledgement. */
  readonly kills: number;
  readonly early: number;
  readonly acknowledged: number;
  /** Commands that count although their process died before it could acknowledge them. */
  readonly unacknowledged: number;
  readonly events: number;
  readonly streams: number;
  /** Events that were delivered to the subscriber. */
  readonly delivered: number;
}

/**
 * Lets processes write to one directory. Kills each with SIGKILL shortly after its start or its first acknowledgement, and
 * starts another in its place. One more process reads all the time. Then checks that every acknowledged command is there, once
 * and whole, without holes, and that both copies of every event agree. Throws if a check fails.
 */
export async function soak({ directory, seconds, writers = 3 }: SoakOptions): Promise<SoakReport> {
  const compiled = compileSources(MODULES);
  try {
    const start = (worker: string, options: object): ChildProcess => {
      const file = path.join(compiled.directory, "test/support", worker);
      return spawn(process.execPath, [file, JSON.stringify({ directory, ...options })], {
        stdio: ["pipe", "pipe", "pipe"],
      });
    };
    const reader = new Reader(start("soak-reader-worker.js", {}));
    try {
      await reader.line();
      const acknowledged: TrackedCommit[] = [];
      const count = { kills: 0, early: 0 };
      const end = performance.now() + seconds * 1000;
      const writeAndDie = async (n: number): Promise<void> => {
        for (let run = 0; performance.now() < end; run++) {
          const commits = await killedWriter(
            start("soak-writer-worker.js", { run: `w${n}.${run}`, instances: INSTANCES }),
          );
          count.kills++;
          if (commits.length === 0) count.early++;
          acknowledged.push(...commits);
        }
      };
      await Promise.all(Array.from({ length: writers }, (_, n) => writeAndDie(n)));
      const { events, ...found } = await audit(directory, acknowledged);
      const delivered = await reader.finish(events);
      return { ...count, acknowledged: acknowledged.length, ...found, events, delivered };
    } finally {
      reader.kill();
    }
  } finally {
    compiled.remove();
  }
}

/** Kills a writer. Returns the commits that it has acknowledged. */
export async function killedWriter(child: ChildProcess): Promise<TrackedCommit[]> {
  let output = "";
  let errors = "";
  const firstAnswer = new Promise<void>((resolve) => {
    child.stdout?.on("data", (bytes: Buffer) => {
      output += bytes.toString();
      resolve();
    });
  });
  child.stderr?.on("data", (bytes: Buffer) => (errors += bytes.toString()));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  // Sometimes while it starts, opens or recovers; else shortly after its first acknowledgement.
  if (Math.random() < 0.25) await pause(40 + Math.random() * 200);
  else {
    await Promise.race([firstAnswer, ended, pause(PATIENCE_MS, undefined, { ref: false })]);
    await pause(Math.random() * 30);
  }
  child.kill("SIGKILL");
  await ended;
  if (errors !== "") throw new Error(`a writer failed: ${errors}`);
  // A line without LF was not printed completely.
  const lines = output
    .slice(0, output.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1);
  return lines.map((line) => {
    const [id = "", events, position] = line.split(" ");
    return { id, events: Number(events), outcome: "acknowledged", result: { position: Number(position) } };
  });
}

class Reader {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr?.pipe(process.stderr);
    if (child.stdout === null) throw new Error("the reader has no output");
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const late = pause(PATIENCE_MS, undefined, { ref: false }).then(() => {
      throw new Error(`expected output of the reader within ${PATIENCE_MS} ms, got none`);
    });
    const next = await Promise.race([this.#lines.next(), late]);
    if (next.done === true) throw new Error("the reader ended too early");
    return next.value;
  }

  /** Waits until the reader has read everything up to a position. */
  async finish(position: number): Promise<number> {
    this.#child.stdin?.write(`${position}\n`);
    const { seen, problem } = JSON.parse(await this.line()) as { readonly seen: number; readonly problem: string };
    if (problem !== "" || seen !== position)
      throw new Error(`expected the reader to read up to ${position}, it has read ${seen}; ${problem}`);
    return seen;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

async function audit(
  directory: string,
  acknowledged: readonly TrackedCommit[],
): Promise<Pick<SoakReport, "events" | "streams" | "unacknowledged">> {
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  const streams = await store.listStreams();
  const events: RecordedEvent[] = [];
  for (const { type, id } of streams) {
    for await (const event of store.readEvents(type, id)) events.push(event);
    const deposits = events.filter((event) => event.id === id && event.type === "Deposited");
    const balance = deposits.reduce((sum, { data }) => sum + (data as { readonly amount: number }).amount, 0);
    const state = await store.get(Account, id).state();
    if (state.balance !== balance)
      throw new Error(`${id}: expected the balance ${balance} of its events, found ${state.balance}`);
  }
  await store.close();
  events.sort((a, b) => a.position - b.position);
  const commits = new Map(acknowledged.map((commit) => [commit.id, commit]));
  if (commits.size !== acknowledged.length) throw new Error("a command was acknowledged twice");
  for (const { correlationId, metadata } of events) {
    if (correlationId === undefined || commits.has(correlationId)) continue;
    commits.set(correlationId, { id: correlationId, events: metadata["size"] as number, outcome: "pending" });
  }
  checkEvents(events, [...commits.values()]);
  checkStoreFiles(filesOf(directory), directory, events);
  return { events: events.length, streams: streams.length, unacknowledged: commits.size - acknowledged.length };
}
