import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStorage } from "../event-store/event-storage.ts";
import type { NatsConnection } from "./connection/nats-connection.ts";
import { streamNames } from "./connection/stream-config.ts";
import { JetStreamEventStore } from "./jetstream-event-store.ts";

const DEFAULT_TIMEOUT_MS = 10_000;
const MOST_REPLICAS = 5;

export interface JetStreamOptions {
  /**
   * A connection of the package `@nats-io/transport-node`, or of one with the same methods. It stays yours: close it after the store is
   * closed. Make it with `maxReconnectAttempts: -1`, so that it never gives up on servers that are away.
   */
  readonly connection: NatsConnection;
  /** Names the store: the stream that holds its commits, made when missing. Letters, digits, `_` and `-`. */
  readonly name: string;
  /**
   * The directory for the replica from which everything is read; `./<name>.replica` if left out. Several stores may name the same one:
   * each uses a directory of its own in it. A replica that is lost is made again from the stream.
   */
  readonly directory?: string;
  /**
   * How many servers keep each commit: 1, 3 or 5. If left out, a new stream has 3 in a cluster and 1 on a single server, and one that is
   * there may have any number.
   */
  readonly replicas?: number;
  /**
   * How long commands and reads wait for servers that do not answer: milliseconds or `"30s"`; 10 seconds if left out. After that they
   * fail with `STORE_UNAVAILABLE` or `COMMIT_UNKNOWN`.
   */
  readonly timeout?: number | Duration;
}

/**
 * A storage that keeps events in a stream of NATS JetStream (nats-server 2.10.23 or later), for `AggregateStore.builder` and
 * `AggregateStore.open`. Several processes may use one stream. When a commit is flushed is the servers' choice (`sync_interval`), so
 * `.durability(…)` has no effect. Throws `INVALID_ARGUMENT` for options that it cannot use.
 */
export function jetStream(options: JetStreamOptions): EventStorage {
  const { connection, name, directory = `./${name}.replica`, replicas, timeout = DEFAULT_TIMEOUT_MS } = options;
  if (typeof (connection as Partial<NatsConnection> | undefined)?.request !== "function")
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "jetStream({ connection }) expected a connection, such as await connect() of the package @nats-io/transport-node; found none",
    );
  streamNames(name);
  if (replicas !== undefined && !(replicas % 2 === 1 && replicas >= 1 && replicas <= MOST_REPLICAS))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `jetStream({ replicas }) expected 1, 3 or 5, found ${String(replicas)}`,
    );
  const patience = milliseconds(timeout, "timeout");
  return {
    name: `jetStream(${JSON.stringify(name)})`,
    open: () => JetStreamEventStore.open({ connection, name, directory, replicas, patience }),
    openReadOnly: () => JetStreamEventStore.open({ connection, name, directory, replicas, patience, readOnly: true }),
  };
}
