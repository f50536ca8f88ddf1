export { jetStream, type JetStreamOptions } from "./jetstream.ts";
export type {
  NatsConnection,
  NatsHeaders,
  NatsMessage,
  NatsRequestOptions,
  NatsServerInfo,
  NatsSubscription,
} from "./connection/nats-connection.ts";
