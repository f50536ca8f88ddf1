import { type ChildProcess, spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { compileSources } from "./compiled-sources.ts";
import type { SoakBackend } from "./soak-backends.ts";

const WORKER = "test/support/soak-server-writer-worker.ts";
const STREAMS = 20;
const LANES = 8;

interface SoakFindings {
  readonly events: number;
  readonly streams: number;
  /** Commits that were answered. */
  readonly acknowledged: number;
  /** Commits whose outcome was reported as unknown, and those of them that were written. */
  readonly unknown: number;
  readonly unknownWritten: number;
  /** Commits that were given up with nothing written. */
  readonly givenUp: number;
  /** Commits that were written, but whose process was killed before it could say so. */
  readonly untold: number;
  /** Between two answers of one process, in ms: the 99th percentile and the longest. */
  readonly pauses: { readonly p99: number; readonly longest: number };
}

export interface SoakReport<Failure extends string> extends SoakFindings {
  /** How often each kind of failure was brought about. */
  readonly failures: Readonly<Record<Failure, number>>;
}

/** What the soak's command prints. */
export function soakSummary(report: SoakReport<string>): string {
  const failures = Object.entries(report.failures).map(([name, count]) => `${name} ${count}`);
  return (
    `failures: ${failures.join(", ")}\n` +
    `${report.acknowledged} commits answered, ${report.events} events in ${report.streams} streams: 0 lost, 0 doubled, no hole\n` +
    `${report.unknown} of unknown outcome (${report.unknownWritten} of them written), ${report.givenUp} given up with nothing written, ` +
    `${report.untold} written whose process died before it could say so\n` +
    `between two answers of a process: p99 ${report.pauses.p99.toFixed(0)} ms, longest ${report.pauses.longest.toFixed(0)} ms`
  );
}

/** Three processes that write to one store on a server. */
export class SoakWriters {
  readonly #backendOf: (writer: number) => SoakBackend;
  readonly #compiled = compileSources([WORKER, "test/support/worker-input.ts", "test/support/soak-backends.ts"]);
  readonly #writers: Writer[] = [];

  constructor(backendOf: (writer: number) => SoakBackend) {
    this.#backendOf = backendOf;
  }

  /** Resolves when all three have opened the store. */
  async start(): Promise<void> {
    await Promise.all([0, 1].map((n) => this.#start(n, 0).opened));
    await this.#start(2, 0).opened;
  }

  /** Kills the one that has run for the longest, and starts it again. */
  async killOne(): Promise<void> {
    const victim = this.#writers.at(-3);
    await victim?.kill();
    this.#start(victim?.number ?? 0, this.#writers.length);
  }

  /** Lets them answer what is under way, and end. */
  async finish(): Promise<void> {
    await Promise.all(this.#writers.map((writer) => writer.finish()));
  }

  /** Kills those that still run. */
  async remove(): Promise<void> {
    for (const writer of this.#writers) await writer.kill();
    this.#compiled.remove();
  }

  get answers(): readonly Answer[] {
    return this.#writers.flatMap((writer) => writer.answers);
  }

  /** Between two answers of one process, in ms, the shortest first. */
  get pauses(): readonly number[] {
    return this.#writers.flatMap((writer) => writer.pauses).sort((a, b) => a - b);
  }

  #start(n: number, run: number): Writer {
    // One of the three gives up soon, so that unknown outcomes are met.
    const patience = n === 2 ? 200 : 60_000;
    const options = { backend: this.#backendOf(n), run: `w${n}.${run}`, streams: STREAMS, lanes: LANES, patience };
    const writer = new Writer(path.join(this.#compiled.directory, WORKER.replace(/\.ts$/, ".js")), options);
    this.#writers.push(writer);
    return writer;
  }
}

interface Answer {
  readonly outcome: string;
  readonly id: string;
  readonly size: number;
  readonly position: number;
}

class Writer {
  readonly answers: Answer[] = [];
  /** Between two answers, in ms. */
  readonly pauses: number[] = [];
  readonly opened: Promise<void>;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #run: string;
  #errors = "";
  #isClosed = false;
  #wasKilled = false;

  constructor(file: string, options: { readonly run: string }) {
    this.#run = options.run;
    this.#child = spawn(process.execPath, [file, JSON.stringify(options)], { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.on("data", (bytes: Buffer) => (this.#errors += bytes.toString()));
    this.#ended = new Promise((resolve) => this.#child.once("close", () => resolve()));
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("the writer has no output");
    let last: number | undefined;
    this.opened = new Promise((resolve, reject) => {
      createInterface({ input: stdout }).on("line", (line) => {
        const now = performance.now();
        if (last !== undefined) this.pauses.push(now - last);
        last = now;
        const [outcome = "", id = "", size, position] = line.split(" ");
        if (outcome === "open") resolve();
        else if (outcome === "closed") this.#isClosed = true;
        else this.answers.push({ outcome, id, size: Number(size), position: Number(position) });
      });
      void this.#ended.then(() => reject(new Error(`the writer did not open: ${this.#errors}`)));
    });
    this.opened.catch(() => {});
  }

  /** Which of the three it is. */
  get number(): number {
    return Number(this.#run.slice(1, this.#run.indexOf(".")));
  }

  async kill(): Promise<void> {
    this.#wasKilled ||= this.#child.exitCode === null;
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  async finish(): Promise<void> {
    this.#child.stdin?.write("stop\n");
    await this.#ended;
    if (this.#wasKilled) return;
    if (!this.#isClosed || this.#errors !== "") throw new Error(`writer ${this.#run} has failed: ${this.#errors}`);
  }
}

/** Compares every answer with what is stored, by id and position. Throws what is wrong. */
export async function audit(store: EventStore, { answers, pauses }: SoakWriters): Promise<SoakFindings> {
  const positions = new Map<string, number>();
  const versions = new Map<string, number>();
  /** Commits that are there, with the number of their events. */
  const written = new Map<string, number>();
  const problems: string[] = [];
  let events = 0;
  for await (const batch of store.readAll()) {
    for (const { eventId = "", stream, version, position } of batch) {
      if (position !== ++events) problems.push(`position ${position} comes after ${events - 1}`);
      if (version !== (versions.get(stream.id) ?? 0) + 1)
        problems.push(`${stream.id} has version ${version} after ${versions.get(stream.id) ?? 0}`);
      versions.set(stream.id, version);
      if (positions.has(eventId))
        problems.push(`${eventId} is there twice, at ${positions.get(eventId)} and ${position}`);
      positions.set(eventId, position);
      const commit = eventId.slice(0, eventId.indexOf("/"));
      written.set(commit, (written.get(commit) ?? 0) + 1);
    }
  }
  let unknownWritten = 0;
  for (const { outcome, id, size, position } of answers) {
    const count = written.get(id);
    if (outcome === "unknown") unknownWritten += count === undefined ? 0 : 1;
    else if (outcome === "nothing" && count !== undefined) problems.push(`${id} was given up and is there`);
    else if (outcome === "ok" && count !== size) problems.push(`${id} has ${count ?? 0} of ${size} events`);
    else if (outcome === "ok" && lastOf(positions, id, size) !== position)
      problems.push(`${id} is not where its answer says, at ${position}`);
  }
  if (problems.length > 0) throw new Error(`${problems.length} problems: ${problems.slice(0, 10).join("; ")}`);
  const told = new Set(answers.map(({ id }) => id));
  const count = (wanted: string): number => answers.filter(({ outcome }) => outcome === wanted).length;
  return {
    ...{ events, streams: versions.size, acknowledged: count("ok"), givenUp: count("nothing") },
    ...{ unknown: count("unknown"), unknownWritten, untold: [...written.keys()].filter((id) => !told.has(id)).length },
    pauses: { p99: pauses[Math.floor(pauses.length * 0.99)] ?? 0, longest: pauses.at(-1) ?? 0 },
  };
}

/** Position of a commit's last event. */
function lastOf(positions: ReadonlyMap<string, number>, id: string, size: number): number | undefined {
  return positions.get(size > 2 ? `${id}/1.0` : `${id}/0.${size - 1}`);
}
