/**
 * The methods that the store needs of a PostgreSQL client. `Pool` of the package `pg` has them. They
 * are declared here so that the package does not depend on the client or its types.
 */

/** One statement with its parameters. */
export interface PostgresQuery {
  readonly text: string;
  /** Prepares the statement once for each connection under this name. */
  readonly name?: string;
  readonly values?: unknown[];
  readonly rowMode: "array";
  /** How values are read: here always as the text that the server sent. */
  readonly types: { readonly getTypeParser: () => (value: string) => string };
}

/** A connection that was taken from a pool. */
export interface PostgresClient {
  query(query: PostgresQuery): Promise<{ readonly rows: unknown[] }>;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "notification", listener: (message: { readonly payload?: string | undefined }) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
  /** Gives the connection back, or closes it when called with `true`. */
  release(destroy?: boolean): void;
}

/** A pool of connections. It stays the caller's: the store gives back what it takes and never ends the pool. */
export interface PostgresPool {
  /** How many connections it makes at most. */
  readonly options?: { readonly max?: number | undefined };
  connect(): Promise<PostgresClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "connect", listener: (client: PostgresClient) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "connect", listener: (client: PostgresClient) => void): unknown;
}
