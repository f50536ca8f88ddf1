import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { saveWhole, sharedServer } from "./shared-server.ts";

const run = promisify(execFile);
const INSTALLED = "/usr/lib/postgresql";

/** The newest of Debian's PostgreSQL binaries, or nothing where none is installed. */
export function installedBinaries(): string | undefined {
  const versions = fs.existsSync(INSTALLED) ? fs.readdirSync(INSTALLED) : [];
  return versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => path.join(INSTALLED, version, "bin"))
    .find((bin) => fs.existsSync(path.join(bin, "initdb")) && fs.existsSync(path.join(bin, "pg_ctl")));
}

interface User {
  readonly uid?: number;
  readonly gid?: number;
}

/** A server of our own on a private port. It refuses to run as root; then it runs as the user `postgres`. */
export class PrivatePostgres {
  readonly port: number;
  readonly directory: string;
  readonly #bin: string;
  readonly #user: User;
  readonly #settings: string;

  private constructor(directory: string, port: number, bin: string, user: User, settings = "") {
    this.#settings = settings;
    this.directory = directory;
    this.port = port;
    this.#bin = bin;
    this.#user = user;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  /** Makes a cluster in a new temporary directory and starts it, with settings like `-c fsync=off`. */
  static async create(settings = ""): Promise<PrivatePostgres> {
    const bin = installedBinaries();
    if (bin === undefined) throw new Error(`no PostgreSQL in ${INSTALLED}: install Debian's package postgresql`);
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-postgres-"));
    const user: User = process.getuid?.() === 0 ? await unprivilegedUser() : {};
    if (user.uid !== undefined && user.gid !== undefined) fs.chownSync(directory, user.uid, user.gid);
    const server = new PrivatePostgres(directory, await freePort(), bin, user, settings);
    try {
      const cluster = ["--pgdata", server.#data, "--no-sync", "--auth", "trust", "--username", "postgres"];
      await server.#run("initdb", [...cluster, "--encoding", "UTF8", "--locale", "C.UTF-8"]);
      await server.start();
    } catch (error) {
      fs.rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    return server;
  }

  /** Starts it, after a crash too, and waits until it answers. */
  async start(): Promise<void> {
    const settings = `-p ${this.port} -k ${this.directory} -c listen_addresses=127.0.0.1 -c max_connections=200 ${this.#settings}`;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#run("pg_ctl", ["start", "-w", "-D", this.#data, "-l", this.#log, "-o", settings]);
        return;
      } catch (error) {
        // Backends of a killed server may still hold its shared memory for a moment.
        if (attempt === 100) throw new Error(`${String(error)}\n${fs.readFileSync(this.#log, "utf8").slice(-2000)}`);
        await pause(50);
      }
    }
  }

  /** `"immediate"` stops without a checkpoint: the next start recovers as after a crash. */
  async stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    await this.#run("pg_ctl", ["stop", "-w", "-D", this.#data, "-m", mode]);
  }

  /** Kills the server's first process, and with it all of its backends, by SIGKILL. */
  async kill(): Promise<void> {
    const pid = Number(fs.readFileSync(path.join(this.#data, "postmaster.pid"), "utf8").split("\n")[0]);
    process.kill(pid, "SIGKILL");
    while (isRunning(pid)) await pause(5);
  }

  /** Stops it and deletes its data. */
  async remove(): Promise<void> {
    await this.stop("immediate").catch(() => {});
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** For another process, which may have to stop it. */
  save(file: string): void {
    const { url, directory } = this;
    saveWhole(file, { url, directory, bin: this.#bin, user: this.#user });
  }

  /** Stops and deletes the server that another process has saved. */
  static async removeSaved(file: string): Promise<void> {
    const { url, directory, bin, user } = JSON.parse(fs.readFileSync(file, "utf8")) as {
      readonly url: string;
      readonly directory?: string;
      readonly bin: string;
      readonly user: User;
    };
    if (directory !== undefined) await new PrivatePostgres(directory, Number(new URL(url).port), bin, user).remove();
  }

  get #data(): string {
    return path.join(this.directory, "data");
  }

  get #log(): string {
    return path.join(this.directory, "log");
  }

  async #run(program: string, args: readonly string[]): Promise<void> {
    const options = { ...this.#user, cwd: this.directory, env: { PATH: process.env["PATH"], LC_ALL: "C.UTF-8" } };
    await run(path.join(this.#bin, program), args, options);
  }
}

/**
 * The server that the tests of one run share: `PG_URL`, else 127.0.0.1:5432 where it lets us in, else one of our own, started
 * by the first test that asks. `directory` is the run's own. Throws where there is none of the three.
 */
export async function sharedPostgres(directory: string): Promise<string> {
  const given = process.env["PG_URL"];
  if (given !== undefined && given !== "") return given;
  const { url } = await sharedServer<{ readonly url: string }>(savedServer(directory), async (file) => {
    const usual = "postgres://postgres@127.0.0.1:5432/postgres";
    if (await answers(usual)) saveWhole(file, { url: usual });
    // No test of the shared server stops it, so it need not flush.
    else (await PrivatePostgres.create("-c fsync=off")).save(file);
  });
  return url;
}

export function savedServer(directory: string): string {
  return path.join(directory, "postgres.json");
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

async function unprivilegedUser(): Promise<{ readonly uid: number; readonly gid: number }> {
  const id = async (flag: string): Promise<number> => Number((await run("id", [flag, "postgres"])).stdout);
  return { uid: await id("-u"), gid: await id("-g") };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
