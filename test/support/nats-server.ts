import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { connect, type ConnectionOptions, type NatsConnection } from "@nats-io/transport-node";
import { freePort } from "./postgres-server.ts";
import { saveWhole, sharedServer } from "./shared-server.ts";

const OLDEST = [2, 10, 23];

/** `NATS_SERVER` if it is a path, else an installed nats-server that is new enough; nothing where there is none. */
export function natsBinary(): string | undefined {
  const given = process.env["NATS_SERVER"];
  if (given !== undefined && given !== "" && !isUrl(given)) return given;
  const directories = (process.env["PATH"] ?? "").split(path.delimiter).concat("/usr/local/bin", "/usr/sbin");
  return directories.map((directory) => path.join(directory, "nats-server")).find(isNewEnough);
}

function isUrl(text: string): boolean {
  return /^\w+:\/\//.test(text);
}

function isNewEnough(binary: string): boolean {
  try {
    const version = /v(\d+)\.(\d+)\.(\d+)/.exec(execFileSync(binary, ["--version"], { encoding: "utf8" }));
    const numbers = version?.slice(1).map(Number) ?? [];
    const at = OLDEST.findIndex((least, i) => numbers[i] !== least);
    return version !== null && (at < 0 || (numbers[at] ?? 0) > (OLDEST[at] ?? 0));
  } catch {
    return false;
  }
}

export interface NatsClusterOptions {
  /** How many servers; with one, there is no cluster. */
  readonly size?: number;
  /** Whether servers flush each message before they acknowledge it (default). */
  readonly flushes?: boolean;
  /** More lines for each server's file of settings. */
  readonly settings?: string;
  /** Whether the servers have no JetStream. */
  readonly withoutJetStream?: boolean;
  /** The user, with the password `p`, for the look whether JetStream is ready. */
  readonly user?: string;
  /** The way from a server to another one, in place of the other's own address. */
  readonly route?: (from: number, to: number, url: string) => Promise<string>;
}

interface Server {
  readonly port: number;
  readonly clusterPort: number;
  /** The ways to the others. */
  readonly routes: string[];
  process: ChildProcess | undefined;
}

/** Servers of our own on private ports, with their data in a temporary directory. */
export class NatsCluster {
  readonly directory: string;
  readonly #binary: string;
  readonly #servers: Server[];
  readonly #options: NatsClusterOptions;

  private constructor(binary: string, directory: string, servers: Server[], options: NatsClusterOptions) {
    this.#binary = binary;
    this.directory = directory;
    this.#servers = servers;
    this.#options = options;
  }

  /** Servers that never find each other, as now and then on a busy machine, are replaced by others. */
  static async create(options: NatsClusterOptions = {}): Promise<NatsCluster> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await NatsCluster.#create(options);
      } catch (error) {
        if (attempt === 3 || !String(error).includes("is not ready")) throw error;
      }
    }
  }

  static async #create(options: NatsClusterOptions): Promise<NatsCluster> {
    const binary = natsBinary();
    if (binary === undefined)
      throw new Error(`no nats-server ${OLDEST.join(".")} or later: install one, or name it in NATS_SERVER`);
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-nats-"));
    const servers: Server[] = [];
    for (let n = 0; n < (options.size ?? 1); n++)
      servers.push({ port: await freePort(), clusterPort: await freePort(), routes: [], process: undefined });
    for (const [from, { routes }] of servers.entries())
      for (const [to, { clusterPort }] of servers.entries()) {
        const url = `nats://127.0.0.1:${clusterPort}`;
        if (from !== to) routes.push((await options.route?.(from, to, url)) ?? url);
      }
    const cluster = new NatsCluster(binary, directory, servers, options);
    try {
      servers.forEach((_, n) => cluster.start(n));
      await cluster.ready();
    } catch (error) {
      const logs = servers.map((_, n) => cluster.#logOf(n)).join("\n");
      cluster.remove();
      throw new Error(`${String(error)}\n${logs}`);
    }
    return cluster;
  }

  get size(): number {
    return this.#servers.length;
  }

  get urls(): string[] {
    return this.#servers.map(({ port }) => `nats://127.0.0.1:${port}`);
  }

  /** A connection that goes on for ever and tries often. */
  connect(options: ConnectionOptions = {}): Promise<NatsConnection> {
    return connectTo(this.urls, options);
  }

  start(n: number): void {
    const server = this.#server(n);
    const base = path.join(this.directory, String(n));
    // Where the ways are given, no server must find another one by itself.
    const advertised = this.#options.route === undefined ? "" : `advertise: "127.0.0.1:1",`;
    const listen = `listen: 127.0.0.1:${server.clusterPort}, ${advertised} routes: [${server.routes.join(", ")}]`;
    const settings = [
      `server_name: n${n}`,
      `listen: 127.0.0.1:${server.port}`,
      this.#options.withoutJetStream === true
        ? ""
        : `jetstream { store_dir: "${base}", sync_interval: ${this.#options.flushes === false ? "2m" : "always"} }`,
      this.size > 1 ? `cluster { name: tests, ${listen} }` : "",
      this.#options.settings ?? "",
    ];
    fs.writeFileSync(`${base}.conf`, settings.join("\n"));
    const started = spawn(this.#binary, ["-c", `${base}.conf`, "-l", `${base}.log`], { stdio: "ignore" });
    started.on("error", () => {});
    server.process = started;
  }

  /** Ends a server at once by SIGKILL. */
  async kill(n: number): Promise<void> {
    const { process: running } = this.#server(n);
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once("exit", resolve));
    running.kill("SIGKILL");
    await ended;
  }

  /** Stops a server for a while, as a long pause of its machine would. */
  signal(n: number, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#server(n).process?.kill(signal);
  }

  /** The servers' processes. */
  get pids(): number[] {
    return this.#servers.flatMap(({ process: running }) => (running?.pid === undefined ? [] : [running.pid]));
  }

  /** Which server leads a stream; nothing if none does at present. */
  async leaderOf(connection: NatsConnection, stream: string): Promise<number | undefined> {
    const answer = await connection.request(`$JS.API.STREAM.INFO.${stream}`, "", { timeout: 1000 });
    const { cluster } = answer.json<{ readonly cluster?: { readonly leader?: string } }>();
    return cluster?.leader === undefined ? undefined : Number(cluster.leader.slice(1));
  }

  /** Waits until JetStream answers and, in a cluster, has all of its servers. */
  async ready(): Promise<void> {
    const { user, withoutJetStream } = this.#options;
    const login = user === undefined ? {} : { user, pass: "p" };
    const connection = await this.#firstConnection(login);
    try {
      if (withoutJetStream === true) return;
      const name = `ready_${process.pid}_${Date.now()}`;
      const body = { name, subjects: [name], storage: "memory", num_replicas: this.size };
      for (let attempt = 1; ; attempt++) {
        const error = await request(connection, `$JS.API.STREAM.CREATE.${name}`, body);
        if (error === undefined) break;
        if (attempt === 300) throw new Error(`JetStream is not ready: ${error}`);
        await pause(100);
      }
      await request(connection, `$JS.API.STREAM.DELETE.${name}`, {});
    } finally {
      await connection.close();
    }
  }

  /** Throws if the servers do not start. */
  async #firstConnection(login: ConnectionOptions): Promise<NatsConnection> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.connect(login);
      } catch (error) {
        const hasEnded = this.#servers.some(
          ({ process: running }) => running?.pid === undefined || running.exitCode !== null,
        );
        if (hasEnded || attempt === 300) throw error;
        await pause(100);
      }
    }
  }

  /** Stops the servers and deletes their data. */
  remove(): void {
    for (const { process: running } of this.#servers) running?.kill("SIGKILL");
    fs.rmSync(this.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }

  /** For another process, which may have to stop them. */
  save(file: string): void {
    for (const { process: running } of this.#servers) running?.unref();
    saveWhole(file, { urls: this.urls, directory: this.directory, pids: this.pids });
  }

  /** Stops and deletes the servers that another process has saved. */
  static removeSaved(file: string): void {
    const { directory, pids } = JSON.parse(fs.readFileSync(file, "utf8")) as SavedNats;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    fs.rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }

  #server(n: number): Server {
    const server = this.#servers[n];
    if (server === undefined) throw new Error(`there is no server ${n}`);
    return server;
  }

  #logOf(n: number): string {
    const log = path.join(this.directory, `${n}.log`);
    return fs.existsSync(log) ? fs.readFileSync(log, "utf8").slice(-1000) : "";
  }
}

interface SavedNats {
  readonly urls: string[];
  readonly directory: string;
  readonly pids: readonly number[];
}

export function connectTo(servers: string[], options: ConnectionOptions = {}): Promise<NatsConnection> {
  return connect({ servers, maxReconnectAttempts: -1, reconnectTimeWait: 50, reconnectJitter: 20, ...options });
}

/** The error that JetStream answered, or that came instead of an answer. */
async function request(connection: NatsConnection, subject: string, body: object): Promise<string | undefined> {
  try {
    const answer = await connection.request(subject, JSON.stringify(body), { timeout: 1000 });
    const { error } = answer.json<{ readonly error?: { readonly description: string } }>();
    return error?.description;
  } catch (error) {
    return String(error);
  }
}

/** The file that says where the shared server of a run is. */
export function savedNats(directory: string): string {
  return path.join(directory, "nats.json");
}

/**
 * The server that the tests of one run share: `NATS_SERVER` if it is an address, else one of our own, started by the first test that asks.
 * `directory` is the run's own. Throws where there is neither.
 */
export async function sharedNats(directory: string): Promise<string[]> {
  const given = process.env["NATS_SERVER"] ?? "";
  if (isUrl(given)) return given.split(",");
  const { urls } = await sharedServer<SavedNats>(savedNats(directory), async (file) => {
    // No test of the shared server stops it, so it need not flush.
    (await NatsCluster.create({ flushes: false })).save(file);
  });
  return urls;
}
