import { monotonicNow, sleep } from "../../real-timers.ts";
import { ApiFailure } from "../connection/api-failure.ts";
import type { JetStreamApi } from "../connection/jetstream-api.ts";
import type { Replica } from "./replica.ts";

/** For how long messages may come by themselves before the leader is asked for them, in ms. */
const FOLLOWER_MS = 100;
const PAUSE_MS = 25;

/** Brings a replica up to what the stream's leader has. */
export class CatchUp {
  readonly #api: JetStreamApi;
  readonly #stream: string;
  readonly #replica: Replica;

  constructor(api: JetStreamApi, stream: string, replica: Replica) {
    this.#api = api;
    this.#stream = stream;
    this.#replica = replica;
  }

  /**
   * Sequence of the stream's last message, certainly not older than the call. `deadline` is a time of the monotonic clock that may move.
   * Throws an `ApiFailure`, or the error of a replica that has stopped.
   */
  async last(deadline: () => number): Promise<number> {
    for (;;) {
      this.#replica.check();
      const had = this.#replica.sequence;
      const { state } = await this.#api.untilAnswered(deadline, (timeout) => this.#api.info(this.#stream, {}, timeout));
      if (state.last_seq >= had) return state.last_seq;
      if (monotonicNow() + PAUSE_MS > deadline())
        throw this.#replica.stop(`the stream ends with message ${state.last_seq}, and it has message ${had}`);
      await sleep(PAUSE_MS);
    }
  }

  /** Waits until the replica has everything that was acknowledged before the call. */
  async toLast(deadline: () => number): Promise<void> {
    await this.to(await this.last(deadline), deadline);
  }

  /** Waits until the replica has a message. As long as messages come, the deadline does not count. */
  async to(sequence: number, deadline: () => number): Promise<void> {
    const replica = this.#replica;
    let seen = replica.sequence;
    let patience = deadline() - monotonicNow();
    let until = monotonicNow() + patience;
    for (let next = -1; ;) {
      if (await replica.reached(sequence, FOLLOWER_MS)) return;
      patience = Math.min(patience, deadline() - monotonicNow());
      if (replica.sequence > seen) until = monotonicNow() + Math.max(patience, 0);
      else if (monotonicNow() > until) throw replica.trouble ?? missing(sequence);
      seen = replica.sequence;
      const isFollowing = replica.next > next;
      ({ next } = replica);
      if (!isFollowing && next <= sequence) await this.#fetch(next);
    }
  }

  /** Asks the leader for a message. */
  async #fetch(sequence: number): Promise<void> {
    try {
      const found = await this.#api.message(this.#stream, { seq: sequence });
      if (found !== undefined) this.#replica.take(sequence, found.data);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.outcome === "refused") throw error;
      await sleep(PAUSE_MS);
    }
  }
}

function missing(sequence: number): ApiFailure {
  return new ApiFailure("passing", new Error(`message ${sequence} did not come`));
}
