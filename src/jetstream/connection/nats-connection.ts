/**
 * The methods that the store needs of a NATS client. `NatsConnection` of `@nats-io/transport-node` has them. They are declared here so
 * that the package does not depend on the client or its types.
 */

/** What the store reads of a message's headers. */
export interface NatsHeaders {
  /** 100 marks a message by which the server controls the flow. */
  readonly code: number;
  get(name: string): string;
}

/** A message that was received. */
export interface NatsMessage {
  readonly data: Uint8Array;
  readonly reply?: string | undefined;
  readonly headers?: NatsHeaders | undefined;
}

export interface NatsRequestOptions {
  /** In milliseconds. */
  readonly timeout: number;
  /** Headers of the client; the store passes an object with the one method that the client calls. */
  readonly headers?: never;
}

export interface NatsSubscription {
  unsubscribe(): void;
}

/** What the server that the client is connected to says about itself. */
export interface NatsServerInfo {
  readonly version: string;
  /** Largest message, in bytes, with its headers. */
  readonly max_payload: number;
  readonly cluster?: string | undefined;
}

/** A connection to NATS. It stays the caller's: the store never closes it. */
export interface NatsConnection {
  readonly info?: NatsServerInfo | undefined;
  request(subject: string, payload: string, options: NatsRequestOptions): Promise<NatsMessage>;
  publish(subject: string): void;
  subscribe(
    subject: string,
    options: { readonly callback: (error: Error | null, message: NatsMessage) => void },
  ): NatsSubscription;
  /** Reports `disconnect` and `reconnect`, among others. */
  status(): AsyncIterable<{ readonly type: string }>;
  /** Connects again, to another server if the client knows several. */
  reconnect(): Promise<void>;
  isClosed(): boolean;
}
