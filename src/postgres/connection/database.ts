import { fingerprint } from "../../fingerprint.ts";
import { guardPool, releasePool } from "./pool-guard.ts";
import type { PostgresClient, PostgresPool, PostgresQuery } from "./postgres-pool.ts";
import { connectFailure, isPreparedElsewhere, queryFailure, SqlFailure } from "./sql-failure.ts";
import { monotonicNow, sleep, startTimer } from "../../real-timers.ts";

/** A row: the values as the server wrote them, `null` for NULL. */
export type Row = readonly (string | null)[];

/** A statement that is prepared once for each connection. */
export interface Statement {
  readonly text: string;
  readonly name: string;
}

/** Between two tries while the server does not answer, in ms: the first pause and the longest. */
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 500;

/** All values as text: what an application has set for its own queries must not change what we read. */
const AS_TEXT = { getTypeParser: () => (value: string) => value };

export function statement(text: string): Statement {
  return { text, name: `eventfold_${fingerprint(text)}` };
}

/** The statements of one store, over the application's pool. */
export class Database {
  readonly #pool: PostgresPool;
  /** How long to wait for a server that does not answer, in ms. */
  readonly patience: number;
  /** Off once a pooler turned out to share connections between clients for single transactions. */
  #prepares = true;

  constructor(pool: PostgresPool, patience: number) {
    this.#pool = pool;
    this.patience = patience;
    guardPool(pool);
  }

  /** Reads; while the server does not answer, tries again until the patience is used up. Throws a `SqlFailure`. */
  async read(what: Statement, values: unknown[] = [], patience: number = this.patience): Promise<Row[]> {
    const deadline = monotonicNow() + patience;
    return untilAnswered(
      () => deadline,
      () => this.attempt(what, values, this.attemptTime(deadline)),
    );
  }

  /** For how long one try may wait, so that a connection that is silently dead leaves time for another. */
  attemptTime(deadline: number): number {
    return Math.max(Math.min(this.patience / 2, deadline - monotonicNow()), 1000);
  }

  /** One try, for at most `timeout` ms. Throws a `SqlFailure` that says whether the statement may have been carried out. */
  async attempt(what: Statement, values: unknown[], timeout: number): Promise<Row[]> {
    const client = await this.connect(timeout);
    try {
      return await this.run(client, what, values, timeout);
    } catch (error) {
      if (!isPreparedElsewhere(error as SqlFailure) || !this.#prepares) throw error;
      this.#prepares = false;
      return await this.run(client, what, values, timeout);
    } finally {
      client.release();
    }
  }

  /** Runs a statement on a connection. A connection that gave no answer in time is broken off and must not be used again. */
  async run(client: Connection, what: Statement, values: unknown[], timeout: number): Promise<Row[]> {
    const query: PostgresQuery = {
      text: what.text,
      ...(this.#prepares && what.name !== "" ? { name: what.name } : {}),
      values,
      rowMode: "array",
      types: AS_TEXT,
    };
    const { late, stop } = alarm(timeout);
    try {
      const answer = client.raw.query(query);
      // One that comes late is of no interest.
      answer.catch(() => {});
      const { rows } = await Promise.race([answer, late]);
      return rows as Row[];
    } catch (error) {
      const failure = queryFailure(error);
      if (failure.outcome === "unknown") client.breakOff();
      throw failure;
    } finally {
      stop();
    }
  }

  /** Takes a connection from the pool. Throws a `SqlFailure` if there is none within `timeout` ms. */
  async connect(timeout: number): Promise<Connection> {
    const { late, stop } = alarm(timeout);
    let isLate = false;
    const connecting = this.#pool.connect();
    connecting.then(
      (client) => {
        if (isLate) client.release();
      },
      () => {},
    );
    try {
      return new Connection(await Promise.race([connecting, late]));
    } catch (error) {
      isLate = true;
      throw connectFailure(error);
    } finally {
      stop();
    }
  }

  close(): void {
    releasePool(this.#pool);
  }
}

/** A connection that was taken from the pool. */
export class Connection {
  readonly raw: PostgresClient;
  #isReleased = false;
  // While a connection is taken, the pool does not listen for its errors; each is also the outcome of a query.
  readonly #ignore: () => void = () => {};

  constructor(client: PostgresClient) {
    this.raw = client;
    client.on("error", this.#ignore);
  }

  release(): void {
    this.#end(false);
  }

  /** Closes the connection. */
  breakOff(): void {
    this.#end(true);
  }

  #end(destroy: boolean): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.raw.release(destroy);
    // One that was closed may still report how.
    if (!destroy) this.raw.removeListener("error", this.#ignore);
  }
}

/** Does something until the server answers or refuses it for good, up to a time of the monotonic clock that may move. */
export async function untilAnswered<T>(deadline: () => number, work: () => Promise<T>): Promise<T> {
  for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      const isFinal = !(error instanceof SqlFailure) || error.outcome === "refused";
      if (isFinal || monotonicNow() + wait > deadline()) throw error;
    }
    await sleep(wait);
  }
}

function alarm(ms: number): { readonly late: Promise<never>; readonly stop: () => void } {
  let stop = (): void => {};
  const late = new Promise<never>((_, reject) => {
    stop = startTimer(
      () => reject(new Error(`the server did not answer within ${Math.round(ms)} ms`)),
      ms,
      "foreground",
    );
  });
  late.catch(() => {});
  return { late, stop };
}
