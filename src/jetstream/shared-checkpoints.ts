import type { Checkpoint } from "../event-store/event-store.ts";
import { compareCodePoints } from "../event-store/stream-order.ts";
import { isJsonValue } from "../json.ts";
import type { JetStreamApi } from "./connection/jetstream-api.ts";
import type { StreamNames } from "./connection/stream-config.ts";

/** How long saving waits for a server that does not answer, in ms. */
const SAVING_PATIENCE_MS = 2000;

/**
 * The checkpoints of named subscriptions, in a stream of their own, which keeps the last message of each subject. They are more than a
 * cache: a process on another machine, or with a new replica, goes on where the last one ended.
 */
export class SharedCheckpoints {
  readonly #api: JetStreamApi;
  readonly #stream: string;
  readonly #prefix: string;

  constructor(api: JetStreamApi, { checkpoints, checkpointSubject }: StreamNames) {
    this.#api = api;
    this.#stream = checkpoints;
    this.#prefix = `${checkpointSubject}.subscription.`;
  }

  async load(name: string): Promise<Checkpoint | undefined> {
    const which = { last_by_subj: this.#subject(name) };
    const found = await this.#api.read((timeout) => this.#api.message(this.#stream, which, timeout));
    return found === undefined ? undefined : (JSON.parse(found.data.toString()) as Checkpoint);
  }

  async list(): Promise<string[]> {
    const body = { subjects_filter: `${this.#prefix}>` };
    const { state } = await this.#api.read((timeout) => this.#api.info(this.#stream, body, timeout));
    const tokens = Object.keys(state.subjects ?? {}).map((subject) => subject.slice(this.#prefix.length));
    return tokens.map((token) => Buffer.from(token, "base64url").toString()).sort(compareCodePoints);
  }

  async save(name: string, checkpoint: Checkpoint): Promise<void> {
    if (!isJsonValue(checkpoint.state)) return;
    const text = JSON.stringify(checkpoint);
    const save = (timeout: number): Promise<number> => this.#api.publish(this.#subject(name), text, undefined, timeout);
    await this.#api.read(save, SAVING_PATIENCE_MS);
  }

  /** A subject must have no spaces, dots or wildcards. */
  #subject(name: string): string {
    return `${this.#prefix}${Buffer.from(name).toString("base64url")}`;
  }
}
