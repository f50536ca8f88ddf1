import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { NatsConnection } from "@nats-io/transport-node";
import { LossyProxy } from "./lossy-proxy.ts";
import { NatsCluster } from "./nats-server.ts";
import { openSoakStore, type SoakBackend } from "./soak-backends.ts";
import { audit, type SoakReport, SoakWriters } from "./soak-writers.ts";

const NAME = "soak";
const SERVERS = 3;
/** Longer than the servers wait before they elect another leader. */
const CUT_OFF_MS = 10_000;

const FAILURES = ["kill leader", "kill writer", "kill follower", "cut off leader", "kill all", "stop leader"] as const;
type Failure = (typeof FAILURES)[number];

export interface JetStreamSoakReport extends SoakReport<Failure> {
  /** How many replicas of stores were compared. */
  readonly replicas: number;
  /** How many servers were compared, each as leader, and how many messages they have. */
  readonly leaders: number;
  readonly messages: number;
}

export interface JetStreamSoakOptions {
  readonly seconds: number;
  /** Which failures are brought about, in turn; all if left out. */
  readonly failures?: readonly Failure[];
}

/**
 * Lets three processes write to a cluster of three servers while servers and writers are killed, and the leader is cut off from its peers or
 * stopped for a while. Then compares every answer with what is stored, by id and position, the replicas of all processes byte by byte, and
 * the messages of all servers. Throws what is wrong.
 */
export async function soakJetStream({
  seconds,
  failures: kinds = FAILURES,
}: JetStreamSoakOptions): Promise<JetStreamSoakReport> {
  const network = new Network();
  const cluster = await NatsCluster.create({ size: SERVERS, route: (from, to, url) => network.route(from, to, url) });
  const base = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-soak-"));
  const backendOf = (n: number | "fresh"): SoakBackend => ({
    ...({ kind: "jetstream", name: NAME, urls: cluster.urls } as const),
    directory: path.join(base, `w${n}`),
  });
  let writers: SoakWriters | undefined;
  let connection: NatsConnection | undefined;
  try {
    writers = new SoakWriters(backendOf);
    connection = await cluster.connect();
    await writers.start();
    const failures: Record<Failure, number> = {
      ...{ "kill leader": 0, "kill follower": 0, "kill all": 0 },
      ...{ "cut off leader": 0, "stop leader": 0, "kill writer": 0 },
    };
    const end = performance.now() + seconds * 1000;
    for (let n = 0; performance.now() < end; n++) {
      await pause(500 + Math.random() * 1000);
      const failure = kinds[n % kinds.length] ?? "kill writer";
      if (failure === "kill writer") await writers.killOne();
      else if (!(await bringAbout(failure, cluster, network, connection))) continue;
      failures[failure]++;
    }
    await writers.finish();
    const { store, end: close } = await openSoakStore(backendOf("fresh"), 30_000);
    const found = await audit(store, writers);
    await close();
    const replicas = await compareReplicas([0, 1, 2, "fresh" as const].map(backendOf));
    return { failures, ...found, replicas, ...(await compareServers(cluster, connection)) };
  } finally {
    await connection?.close();
    await writers?.remove();
    cluster.remove();
    await network.close();
    fs.rmSync(base, { recursive: true, force: true });
  }
}

/** The ways between the servers, which can be cut. */
class Network {
  readonly #ways: { readonly from: number; readonly to: number; readonly proxy: LossyProxy }[] = [];

  async route(from: number, to: number, url: string): Promise<string> {
    const proxy = await LossyProxy.start(url);
    this.#ways.push({ from, to, proxy });
    return proxy.url;
  }

  /** Cuts a server off from its peers, without a sign to either; its clients still reach it. */
  cutOff(server: number): void {
    for (const proxy of this.#waysOf(server)) proxy.isSilent = true;
  }

  heal(server: number): void {
    for (const proxy of this.#waysOf(server)) {
      // The connections lack the bytes that were dropped in between.
      proxy.down();
      proxy.isSilent = false;
      proxy.up();
    }
  }

  async close(): Promise<void> {
    for (const { proxy } of this.#ways) await proxy.stop();
  }

  #waysOf(server: number): LossyProxy[] {
    return this.#ways.filter(({ from, to }) => from === server || to === server).map(({ proxy }) => proxy);
  }
}

/** The leader, for which it waits; nothing if there is none for long. */
async function nextLeader(cluster: NatsCluster, connection: NatsConnection): Promise<number | undefined> {
  for (let attempt = 0; attempt < 60; attempt++) {
    const leader = await cluster.leaderOf(connection, NAME).catch(() => undefined);
    if (leader !== undefined) return leader;
    await pause(200);
  }
  return undefined;
}

/** False if there is no leader. */
async function bringAbout(
  failure: Exclude<Failure, "kill writer">,
  cluster: NatsCluster,
  network: Network,
  connection: NatsConnection,
): Promise<boolean> {
  const leader = await nextLeader(cluster, connection);
  if (leader === undefined && failure !== "kill all") return false;
  const target = failure === "kill follower" ? ((leader ?? 0) + 1) % SERVERS : (leader ?? 0);
  const restart = async (servers: readonly number[]): Promise<void> => {
    await Promise.all(servers.map((n) => cluster.kill(n)));
    await pause(Math.random() * 500);
    for (const n of servers) cluster.start(n);
  };
  if (failure === "kill all") await restart([0, 1, 2]);
  else if (failure === "cut off leader") {
    network.cutOff(target);
    await pause(CUT_OFF_MS);
    network.heal(target);
  } else if (failure === "stop leader") {
    cluster.signal(target, "SIGSTOP");
    await pause(CUT_OFF_MS);
    cluster.signal(target, "SIGCONT");
  } else await restart([target]);
  return true;
}

/** Brings the replicas up to date, and compares the files of their streams. */
async function compareReplicas(backends: readonly SoakBackend[]): Promise<number> {
  const seen = new Map<string, string>();
  for (const backend of backends) {
    if (backend.kind !== "jetstream") continue;
    const { end } = await openSoakStore(backend, 30_000);
    await end();
    seen.set(backend.directory, hashOf(path.join(backend.directory, "1/streams")));
  }
  if (new Set(seen.values()).size > 1) throw new Error(`replicas differ: ${JSON.stringify([...seen])}`);
  return seen.size;
}

function hashOf(directory: string): string {
  const hash = createHash("sha256");
  const files = fs.readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  for (const file of files.filter((name) => name.endsWith("app.jsonl")))
    hash.update(`${file}\n`).update(fs.readFileSync(path.join(directory, file)));
  return hash.digest("hex");
}

/** Makes each server the leader in turn, and compares what they have. */
async function compareServers(
  cluster: NatsCluster,
  connection: NatsConnection,
): Promise<{ readonly leaders: number; readonly messages: number }> {
  const seen = new Map<number, { readonly hash: string; readonly messages: number }>();
  // A server that has just become the leader may not answer yet, or not have taken in all that its log has.
  const most = (): number => Math.max(0, ...[...seen.values()].map(({ messages }) => messages));
  const isComplete = (n: number): boolean => seen.has(n) && seen.get(n)?.messages === most();
  const areAllComplete = (): boolean => seen.size === SERVERS && [...seen.keys()].every(isComplete);
  for (let attempt = 0; !areAllComplete() && attempt < 60; attempt++) {
    const leader = await cluster.leaderOf(connection, NAME).catch(() => undefined);
    const found =
      leader === undefined || isComplete(leader) ? undefined : await messagesOf(connection).catch(() => undefined);
    if (leader !== undefined && found !== undefined) seen.set(leader, found);
    const stepDown = connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${NAME}`, "", { timeout: 2000 });
    await stepDown.catch(() => {});
    await pause(300);
  }
  const [first, ...others] = seen.values();
  if (first === undefined) throw new Error("no server became the leader and answered");
  if (others.some(({ hash }) => hash !== first.hash)) throw new Error(`servers differ: ${JSON.stringify([...seen])}`);
  return { leaders: seen.size, messages: first.messages };
}

/** All messages that the leader has. */
async function messagesOf(connection: NatsConnection): Promise<{ readonly hash: string; readonly messages: number }> {
  const hash = createHash("sha256");
  for (let seq = 1; ; seq++) {
    const answer = await connection.request(`$JS.API.STREAM.MSG.GET.${NAME}`, JSON.stringify({ seq }), {
      timeout: 5000,
    });
    const { error, message } = answer.json<{
      readonly error?: { readonly code: number; readonly description: string };
      readonly message?: { readonly data: string };
    }>();
    if (error?.code === 404) return { hash: hash.digest("hex"), messages: seq - 1 };
    if (message === undefined) throw new Error(error?.description ?? "an answer without a message");
    hash.update(message.data);
  }
}
