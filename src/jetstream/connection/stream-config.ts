import { EventfoldError } from "../../errors.ts";
import { ApiFailure, ERROR_CODES } from "./api-failure.ts";
import type { JetStreamApi, StreamInfo } from "./jetstream-api.ts";

/** Earlier versions can lose acknowledged messages of a stream with several replicas. */
const OLDEST_SERVER = [2, 10, 23] as const;

type Config = Readonly<Record<string, unknown>>;

export interface StreamNames {
  /** The stream of commits. */
  readonly commits: string;
  /** The stream with the last checkpoint of each subscription. */
  readonly checkpoints: string;
  /** The stream with the keys of personal fields. */
  readonly keys: string;
  readonly commitSubject: string;
  /** Begins the subjects of checkpoints. */
  readonly checkpointSubject: string;
  /** Begins the subjects of keys. */
  readonly keySubject: string;
}

/** Throws `INVALID_ARGUMENT` for a name that cannot be that of a stream. */
export function streamNames(name: string): StreamNames {
  if (!/^[A-Za-z0-9_-]{1,100}$/.test(name))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `jetStream({ name }) expected 1 to 100 letters, digits, "_" or "-", found ${JSON.stringify(name)}`,
    );
  return {
    commits: name,
    checkpoints: `${name}_checkpoints`,
    keys: `${name}_keys`,
    commitSubject: `eventfold.${name}.commits`,
    checkpointSubject: `eventfold.${name}.checkpoints`,
    keySubject: `eventfold.${name}.keys`,
  };
}

/** What every stream of a store must be: it keeps everything that it acknowledges, and nothing can be taken out of it. */
const COMMON: Config = {
  ...{ retention: "limits", storage: "file", max_age: 0, max_msgs: -1, discard: "new" },
  ...{ deny_delete: true, sealed: false, no_ack: false, mirror: undefined, sources: undefined },
};
const COMMITS: Config = { ...COMMON, max_msgs_per_subject: -1, deny_purge: true, allow_rollup_hdrs: false };
const CHECKPOINTS: Config = { ...COMMON, max_msgs_per_subject: 1, discard: "old", max_bytes: -1 };
/** A key that is destroyed is deleted. */
const KEYS: Config = { ...CHECKPOINTS, deny_delete: false };

/** Settings that servers leave out of an answer while they are off. */
const OFF: Config = {
  ...{ deny_delete: false, deny_purge: false, sealed: false, no_ack: false },
  ...{ allow_rollup_hdrs: false, max_age: 0 },
};

interface OpenStreamsOptions {
  readonly replicas?: number | undefined;
  /** Whether no stream is made. */
  readonly readOnly?: boolean | undefined;
}

/** Makes the streams of a store, or checks those that are there. Returns what is known of the stream of commits. */
export async function openStreams(
  api: JetStreamApi,
  names: StreamNames,
  options: OpenStreamsOptions,
): Promise<StreamInfo> {
  await api.read(async () => checkServer(api));
  const wanted = options.replicas ?? (api.link.connection.info?.cluster === undefined ? 1 : 3);
  const commits = { ...COMMITS, subjects: [names.commitSubject] };
  const info = await openStream(api, names.commits, commits, options, wanted);
  const kept = info.config["num_replicas"];
  const others = [
    [names.checkpoints, { ...CHECKPOINTS, subjects: [`${names.checkpointSubject}.>`] }],
    [names.keys, { ...KEYS, subjects: [`${names.keySubject}.>`] }],
  ] as const;
  await Promise.all(
    others.map(([name, config]) => openStream(api, name, config, options, typeof kept === "number" ? kept : wanted)),
  );
  return info;
}

function checkServer(api: JetStreamApi): void {
  const { info } = api.link.connection;
  if (info === undefined) throw new ApiFailure("unsent", new Error("there is no connection to a server"));
  const numbers = /^v?(\d+)\.(\d+)\.(\d+)/.exec(info.version)?.slice(1).map(Number) ?? [0];
  const at = OLDEST_SERVER.findIndex((least, i) => numbers[i] !== least);
  if (at < 0 || (numbers[at] ?? 0) > (OLDEST_SERVER[at] ?? 0)) return;
  throw new EventfoldError(
    "UNSUPPORTED_FORMAT",
    `expected nats-server ${OLDEST_SERVER.join(".")} or later, found ${info.version}: earlier versions can lose acknowledged messages. Update all servers of the cluster`,
  );
}

async function openStream(
  api: JetStreamApi,
  name: string,
  config: Config,
  { replicas, readOnly }: OpenStreamsOptions,
  wanted: number,
): Promise<StreamInfo> {
  const found = await findStream(api, name);
  if (found === undefined && readOnly === true)
    throw new EventfoldError(
      "STORE_NOT_FOUND",
      `expected a store in the stream ${name}, found no such stream; readOnly() makes no store. Correct the name, or open the store once without readOnly()`,
    );
  const info = found ?? (await makeStream(api, name, config, wanted));
  check(name, config, replicas, info);
  return info;
}

function findStream(api: JetStreamApi, name: string): Promise<StreamInfo | undefined> {
  return api.read(async (timeout) => {
    try {
      return await api.info(name, {}, timeout);
    } catch (error) {
      if (error instanceof ApiFailure && error.code === ERROR_CODES.streamNotFound) return undefined;
      throw error;
    }
  });
}

/** Making a stream twice with the same settings changes nothing, so an answer that was lost does no harm. */
async function makeStream(api: JetStreamApi, name: string, config: Config, replicas: number): Promise<StreamInfo> {
  const body = { name, num_replicas: replicas, max_bytes: -1, max_msg_size: -1, ...config };
  try {
    await api.read((timeout) => api.call(`STREAM.CREATE.${name}`, body, timeout));
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.outcome !== "refused") throw error;
    if (error.code === ERROR_CODES.replicasWithoutCluster || /no suitable peers/.test(error.message))
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `jetStream({ replicas: ${replicas} }) expected a cluster of at least ${replicas} servers with JetStream, found fewer (${error.message})`,
        { cause: error.cause },
      );
    // Another process has made it just now; its settings are checked next.
    if (error.code !== ERROR_CODES.nameInUse) throw error;
  }
  return api.read((timeout) => api.info(name, {}, timeout));
}

/** Throws for a stream that could lose events, or that is not ours. */
function check(name: string, expected: Config, replicas: number | undefined, { config, state }: StreamInfo): void {
  const wanted = replicas === undefined ? expected : { ...expected, num_replicas: replicas };
  const wrong = Object.entries(wanted)
    .filter(([key, value]) => JSON.stringify(config[key] ?? OFF[key]) !== JSON.stringify(value))
    .map(([key, value]) => `${key} ${shown(value)}, found ${shown(config[key] ?? OFF[key])}`);
  const isWhole = state.num_deleted === undefined || state.num_deleted === 0;
  if (expected["max_msgs_per_subject"] === -1 && (!isWhole || state.first_seq > 1))
    wrong.push(`all messages from the first one on, found messages missing`);
  if (wrong.length === 0) return;
  throw new EventfoldError(
    "UNSUPPORTED_FORMAT",
    `the stream ${name} cannot hold a store: expected ${wrong.join("; expected ")}. Nothing was written; use another name, or correct the stream`,
  );
}

function shown(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
