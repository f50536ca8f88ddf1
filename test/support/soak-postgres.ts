import { type ChildProcess, spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { PostgresEventStore } from "../../src/postgres/postgres-event-store.ts";
import { compileSources } from "./compiled-sources.ts";
import { PrivatePostgres } from "./postgres-server.ts";

const SCHEMA = "soak";
const WORKER = "test/support/soak-postgres-writer-worker.ts";
const STREAMS = 20;
const LANES = 8;

export interface PostgresSoakReport {
  /** How often each kind of failure was brought about. */
  readonly failures: Readonly<Record<Failure, number>>;
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

const FAILURES = ["terminate", "kill backend", "kill server", "stop at once", "kill writer"] as const;
type Failure = (typeof FAILURES)[number];

/**
 * Lets three processes write to one store while backends, the whole server and writers are killed, and the server is stopped without a
 * checkpoint. Then compares every answer with what is stored, by id and position. Throws what is wrong.
 */
export async function soakPostgres({ seconds }: { readonly seconds: number }): Promise<PostgresSoakReport> {
  // After a crash the server flushes its whole directory, file by file unless told otherwise, before it recovers.
  const server = await PrivatePostgres.create("-c recovery_init_sync_method=syncfs");
  const compiled = compileSources([WORKER, "test/support/worker-input.ts"]);
  const writers: Writer[] = [];
  try {
    const start = (n: number, run: number): Writer => {
      // One of the three gives up soon, so that unknown outcomes are met.
      const patience = n === 2 ? 200 : 60_000;
      const options = {
        url: server.url,
        schema: SCHEMA,
        run: `w${n}.${run}`,
        streams: STREAMS,
        lanes: LANES,
        patience,
      };
      return new Writer(path.join(compiled.directory, WORKER.replace(/\.ts$/, ".js")), options);
    };
    writers.push(...[0, 1].map((n) => start(n, 0)));
    await Promise.all(writers.map(({ opened }) => opened));
    writers.push(start(2, 0));
    await Promise.all(writers.map(({ opened }) => opened));
    const failures: Record<Failure, number> = {
      ...{ terminate: 0, "kill backend": 0, "kill server": 0, "stop at once": 0, "kill writer": 0 },
    };
    const end = performance.now() + seconds * 1000;
    for (let n = 0; performance.now() < end; n++) {
      await pause(300 + Math.random() * 700);
      const failure = FAILURES[n % FAILURES.length] ?? "terminate";
      failures[failure]++;
      if (failure === "kill writer") {
        const victim = writers[writers.length - 3];
        await victim?.kill();
        writers.push(start(victim?.number ?? 0, n + 1));
      } else await bringAbout(failure, server);
    }
    await Promise.all(writers.map((writer) => writer.finish()));
    return { failures, ...(await audit(server.url, writers)) };
  } finally {
    for (const writer of writers) await writer.kill();
    compiled.remove();
    await server.remove();
  }
}

async function bringAbout(failure: Exclude<Failure, "kill writer">, server: PrivatePostgres): Promise<void> {
  if (failure === "kill server" || failure === "stop at once") {
    await (failure === "kill server" ? server.kill() : server.stop("immediate"));
    await server.start();
    return;
  }
  const client = new pg.Client({ connectionString: server.url });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ pid: number }>(
      "select pid from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' order by state = 'active' desc, random() limit 1",
    );
    const pid = rows[0]?.pid;
    if (pid === undefined) return;
    if (failure === "terminate") await client.query("select pg_terminate_backend($1)", [pid]);
    else process.kill(pid, "SIGKILL");
  } catch {
    // It is just coming back from the failure before.
  } finally {
    await client.end().catch(() => {});
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

async function audit(url: string, writers: readonly Writer[]): Promise<Omit<PostgresSoakReport, "failures">> {
  const pool = new pg.Pool({ connectionString: url });
  const store = await PostgresEventStore.open({
    ...{ pool, schema: SCHEMA, durability: "flush", patience: 10_000, listens: false },
  });
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
  await store.close();
  await pool.end();
  const answers = writers.flatMap((writer) => writer.answers);
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
  const pauses = writers.flatMap((writer) => writer.pauses).sort((a, b) => a - b);
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
