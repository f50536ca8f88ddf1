import { monotonicNow, startTimer } from "../../real-timers.ts";
import { ApiFailure, requestFailure } from "./api-failure.ts";
import type { NatsConnection, NatsMessage } from "./nats-connection.ts";

/** At most so often a connection is broken off because its server does not answer, in ms. */
const RECONNECT_MS = 1000;

/** What all stores on one connection know of it. */
class LinkState {
  isConnected = true;
  lastReconnect = -Infinity;
  /** Called when there is a server again. */
  readonly waiting = new Set<() => void>();
  /** Called when the connection breaks. */
  readonly breaking = new Set<() => void>();
}

const states = new WeakMap<NatsConnection, LinkState>();

/** A connection, and whether it has a server at present. */
export class Link {
  readonly connection: NatsConnection;
  readonly #state: LinkState;

  constructor(connection: NatsConnection) {
    this.connection = connection;
    let state = states.get(connection);
    if (state === undefined) {
      states.set(connection, (state = new LinkState()));
      void follow(connection, state);
    }
    this.#state = state;
  }

  get isConnected(): boolean {
    return this.#state.isConnected && !this.connection.isClosed();
  }

  /** The largest message that the server takes, in bytes. */
  get maxPayload(): number {
    return this.connection.info?.max_payload ?? 1 << 20;
  }

  /** One request, for at most `timeout` ms. Throws an `ApiFailure` that says whether it may have been carried out. */
  async request(
    subject: string,
    payload: string,
    timeout: number,
    headers?: Readonly<Record<string, string>>,
  ): Promise<NatsMessage> {
    if (this.connection.isClosed())
      throw new ApiFailure("unsent", new Error("the connection is closed; connect with maxReconnectAttempts: -1"));
    if (!this.isConnected) throw new ApiFailure("unsent", new Error("there is no connection to a server"));
    let stop = (): void => {};
    // The client waits for an answer that cannot come any more.
    const broken = new Promise<never>((_, reject) => {
      const fail = (): void => reject(new Error("the connection broke before the answer came"));
      this.#state.breaking.add(fail);
      stop = () => this.#state.breaking.delete(fail);
    });
    try {
      const options = headers === undefined ? { timeout } : { timeout, headers: encodable(headers) as never };
      const answer = this.connection.request(subject, payload, options);
      // One that comes late is of no interest.
      answer.catch(() => {});
      return await Promise.race([answer, broken]);
    } catch (error) {
      throw requestFailure(error);
    } finally {
      stop();
    }
  }

  /** The server does not answer: it may be cut off from the others, of which the client may know one. */
  async change(): Promise<void> {
    if (!this.isConnected || monotonicNow() - this.#state.lastReconnect < RECONNECT_MS) return;
    this.#state.lastReconnect = monotonicNow();
    await this.connection.reconnect().catch(() => {});
  }

  /** Resolves when there is a server again, or after `ms`. */
  async connected(ms: number): Promise<void> {
    if (this.isConnected) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        cancel();
        this.#state.waiting.delete(done);
        resolve();
      };
      const cancel = startTimer(done, ms, "foreground");
      this.#state.waiting.add(done);
    });
  }
}

/** Listens as long as the connection is open. */
async function follow(connection: NatsConnection, state: LinkState): Promise<void> {
  for await (const { type } of connection.status()) {
    if (type === "disconnect") {
      state.isConnected = false;
      for (const fail of state.breaking) fail();
    }
    if (type !== "reconnect") continue;
    state.isConnected = true;
    for (const wake of state.waiting) wake();
  }
}

/** The client calls nothing of headers but `encode`. */
function encodable(headers: Readonly<Record<string, string>>): { encode(): Uint8Array } {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return { encode: () => new TextEncoder().encode(`NATS/1.0\r\n${lines.join("")}\r\n`) };
}
