import { monotonicNow, startTimer } from "../../real-timers.ts";
import type { JetStreamApi } from "../connection/jetstream-api.ts";
import type { NatsMessage, NatsSubscription } from "../connection/nats-connection.ts";
import type { Replica } from "./replica.ts";

/** How often the server says that it has nothing new, in ms. */
const HEARTBEAT_MS = 1000;
/** After so much silence the consumer is made again, in ms. */
const SILENCE_MS = 2500;
/** How often silence is looked for, and at most so often the consumer is made again, in ms. */
const LOOK_MS = 250;
/** How long the server keeps a consumer without a listener, in ms. */
const KEPT_MS = 60_000;
const CONTROL = 100;

/**
 * Hears of new messages from a push consumer of its own, and gives them to the replica. The consumer is made again, from the next message
 * on, whenever it falls silent or leaves out messages: when its server has died, when the connection has broken, when the client was too slow.
 */
export class Follower {
  readonly #api: JetStreamApi;
  readonly #stream: string;
  readonly #replica: Replica;
  #subscription: NatsSubscription | undefined;
  #consumer: string | undefined;
  #heard = -Infinity;
  #made = -Infinity;
  #isMaking = false;
  /** Subjects to answer when the replica has room again. */
  readonly #held: string[] = [];
  #cancelLook: () => void = () => {};
  #isClosed = false;

  constructor(api: JetStreamApi, stream: string, replica: Replica) {
    this.#api = api;
    this.#stream = stream;
    this.#replica = replica;
  }

  start(): void {
    this.#look();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelLook();
    this.#drop();
  }

  #look(): void {
    if (this.#isClosed) return;
    if (monotonicNow() - this.#heard > SILENCE_MS) this.#make();
    if (!this.#replica.isBusy) for (const subject of this.#held.splice(0)) this.#answer(subject);
    this.#cancelLook = startTimer(() => this.#look(), LOOK_MS, "background");
  }

  /** Makes the consumer again, soon. */
  #make(): void {
    if (this.#isMaking || this.#isClosed || monotonicNow() - this.#made < LOOK_MS || !this.#api.link.isConnected)
      return;
    this.#isMaking = true;
    this.#made = monotonicNow();
    this.#create()
      .catch(() => {})
      .finally(() => (this.#isMaking = false));
  }

  async #create(): Promise<void> {
    this.#drop();
    const id = globalThis.crypto.randomUUID().replaceAll("-", "");
    const [consumer, inbox] = [`eventfold_${id}`, `_INBOX.${id}`];
    const callback = (error: Error | null, message: NatsMessage): void => {
      if (error === null && this.#consumer === consumer) this.#receive(message);
    };
    this.#consumer = consumer;
    this.#subscription = this.#api.link.connection.subscribe(inbox, { callback });
    const config = {
      ...{ name: consumer, deliver_subject: inbox, deliver_policy: "by_start_sequence", ack_policy: "none" },
      ...{
        opt_start_seq: this.#replica.next,
        replay_policy: "instant",
        max_deliver: 1,
        mem_storage: true,
        num_replicas: 1,
      },
      ...{ flow_control: true, idle_heartbeat: HEARTBEAT_MS * 1e6, inactive_threshold: KEPT_MS * 1e6 },
    };
    const body = { stream_name: this.#stream, config, action: "create" };
    await this.#api.call(`CONSUMER.CREATE.${this.#stream}.${consumer}`, body);
    this.#heard = monotonicNow();
  }

  #drop(): void {
    this.#subscription?.unsubscribe();
    this.#held.length = 0;
    if (this.#consumer !== undefined)
      // The server forgets one that is not deleted, too.
      this.#api.call(`CONSUMER.DELETE.${this.#stream}.${this.#consumer}`, {}).catch(() => {});
    this.#consumer = undefined;
  }

  #receive({ data, reply, headers }: NatsMessage): void {
    this.#heard = monotonicNow();
    if (headers?.code !== CONTROL) {
      if (!this.#replica.take(sequenceOf(reply), data)) this.#make();
      return;
    }
    const stalled = headers.get("Nats-Consumer-Stalled");
    // The last message that was sent; one that has not come was lost.
    if (Number(headers.get("Nats-Last-Stream")) >= this.#replica.next) this.#make();
    const subject = reply !== undefined && reply !== "" ? reply : stalled;
    if (subject === "") return;
    if (this.#replica.isBusy) this.#held.push(subject);
    else this.#answer(subject);
  }

  #answer(subject: string): void {
    try {
      this.#api.link.connection.publish(subject);
    } catch {
      // The connection is closed.
    }
  }
}

/** From `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>…`, or the same with a domain and an account after `ACK`. */
function sequenceOf(reply = ""): number {
  const tokens = reply.split(".");
  return Number(tokens[tokens.length > 9 ? 7 : 5]);
}
