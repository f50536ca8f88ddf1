import { monotonicNow, sleep } from "../../real-timers.ts";
import { answeredFailure, type ApiError, ApiFailure, ERROR_CODES } from "./api-failure.ts";
import type { Link } from "./link.ts";
import type { NatsMessage } from "./nats-connection.ts";

/** How long one request may take before it counts as unanswered, in ms. */
const ATTEMPT_MS = 2000;
/** Between two tries while the server does not answer, in ms: the first pause and the longest. */
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 500;
/** A leader that has not heard from a majority for this long, in ns, may have been replaced. Servers wait for 4 s or more to replace one. */
const LEASE_NS = 3e9;

/** How a stream is replicated, as its leader sees it. */
interface ClusterInfo {
  readonly leader?: string;
  readonly replicas?: readonly { readonly active: number; readonly current: boolean; readonly offline?: boolean }[];
}

export interface StreamInfo {
  readonly config: Readonly<Record<string, unknown>>;
  readonly state: {
    readonly messages: number;
    readonly first_seq: number;
    readonly last_seq: number;
    readonly num_deleted?: number;
    readonly subjects?: Readonly<Record<string, number>>;
  };
  readonly cluster?: ClusterInfo;
}

interface StoredMessage {
  readonly sequence: number;
  readonly data: Buffer;
}

/** The requests of JetStream's API that the store makes. Each method makes one try and throws an `ApiFailure`. */
export class JetStreamApi {
  readonly link: Link;
  /** How long to wait for servers that do not answer, in ms. */
  readonly patience: number;

  constructor(link: Link, patience: number) {
    this.link = link;
    this.patience = patience;
  }

  /**
   * What a stream's leader says about it. Fails if the leader has lost contact with a majority, because a newer leader may have
   * acknowledged more.
   */
  async info(stream: string, body: object = {}, timeout: number = ATTEMPT_MS): Promise<StreamInfo> {
    const info = await this.call<StreamInfo>(`STREAM.INFO.${stream}`, body, timeout);
    if (hasMajority(info.cluster)) return info;
    void this.link.change();
    throw new ApiFailure("passing", new Error("the stream's leader has no contact with a majority of its servers"));
  }

  /** The message at a sequence, or the last one of a subject, as the leader has it; nothing if it has none. */
  async message(
    stream: string,
    which: { readonly seq: number } | { readonly last_by_subj: string },
    timeout: number = ATTEMPT_MS,
  ): Promise<StoredMessage | undefined> {
    try {
      const { message } = await this.call<{ readonly message: { readonly seq: number; readonly data?: string } }>(
        `STREAM.MSG.GET.${stream}`,
        which,
        timeout,
      );
      return { sequence: message.seq, data: Buffer.from(message.data ?? "", "base64") };
    } catch (error) {
      if (error instanceof ApiFailure && error.code === ERROR_CODES.messageNotFound) return undefined;
      throw error;
    }
  }

  /** Publishes to a subject of a stream and waits for the acknowledgement. Returns the message's sequence. */
  async publish(subject: string, payload: string, expected: number | undefined, timeout: number): Promise<number> {
    const headers = expected === undefined ? undefined : { "Nats-Expected-Last-Sequence": String(expected) };
    const { seq } = answerOf<{ readonly seq: number }>(await this.link.request(subject, payload, timeout, headers));
    return seq;
  }

  /** One request to JetStream's API. */
  async call<T>(what: string, body: object, timeout: number = ATTEMPT_MS): Promise<T> {
    return answerOf<T>(await this.link.request(`$JS.API.${what}`, JSON.stringify(body), timeout));
  }

  /** Reads; while no server answers, tries again until the patience is used up. */
  read<T>(work: (timeout: number) => Promise<T>, patience: number = this.patience): Promise<T> {
    const deadline = monotonicNow() + patience;
    return this.untilAnswered(() => deadline, work);
  }

  /** Does something until a server answers or refuses it for good, up to a time of the monotonic clock that may move. */
  async untilAnswered<T>(deadline: () => number, work: (timeout: number) => Promise<T>): Promise<T> {
    let unanswered = 0;
    for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
      try {
        return await work(Math.max(Math.min(ATTEMPT_MS, deadline() - monotonicNow()), 100));
      } catch (error) {
        const isFinal = !(error instanceof ApiFailure) || error.outcome === "refused";
        if (isFinal || monotonicNow() + wait > deadline()) throw error;
        if (error.outcome === "unknown" && ++unanswered % 2 === 0) await this.link.change();
      }
      if (this.link.isConnected) await sleep(wait);
      else await this.link.connected(Math.max(Math.min(deadline() - monotonicNow(), LONGEST_PAUSE_MS), 1));
    }
  }
}

function answerOf<T>({ data }: NatsMessage): T {
  const answer = JSON.parse(Buffer.from(data).toString()) as T & { readonly error?: ApiError };
  if (answer.error !== undefined) throw answeredFailure(answer.error);
  return answer;
}

/** Whether the leader has heard from enough servers so recently that none of them has followed another leader. */
function hasMajority(cluster: ClusterInfo | undefined): boolean {
  const { leader, replicas = [] } = cluster ?? {};
  if (cluster === undefined || (replicas.length === 0 && leader !== undefined)) return true;
  if (leader === undefined || leader === "") return false;
  const heard = replicas.filter(
    ({ active, current, offline }) => offline !== true && active < LEASE_NS && (active > 0 || current),
  );
  return 1 + heard.length > (1 + replicas.length) / 2;
}
