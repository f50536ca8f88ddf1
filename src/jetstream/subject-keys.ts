import type { SubjectKey, SubjectKeys } from "../event-store/subject-keys.ts";
import { ApiFailure, ERROR_CODES } from "./connection/api-failure.ts";
import type { JetStreamApi } from "./connection/jetstream-api.ts";
import type { StreamNames } from "./connection/stream-config.ts";
import { readFailed } from "./failures.ts";

/** How many requests may be under way. */
const AT_ONCE = 100;

interface StoredKey {
  readonly subject: string;
  readonly id: string;
  /** Hexadecimal. */
  readonly key: string;
}

/**
 * The keys of personal fields, in a stream of their own, of which messages can be deleted. A key is a message, and its subject has a digest
 * of the person and the key's id, so that it is found by either.
 */
export class JetStreamSubjectKeys implements SubjectKeys {
  readonly #api: JetStreamApi;
  readonly #stream: string;
  readonly #prefix: string;

  constructor(api: JetStreamApi, { keys, keySubject }: StreamNames) {
    this.#api = api;
    this.#stream = keys;
    this.#prefix = keySubject;
  }

  async obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>> {
    const obtained = new Map<string, SubjectKey>();
    let missing = [...new Set(subjects)];
    for (;;) {
      // Before the look: a key that another process adds after it is in the way of ours.
      const last = await this.#last();
      const found = await inChunks(missing, (subject) => this.#find(subject));
      for (const [i, key] of found.entries()) if (key !== undefined) obtained.set(missing[i] ?? "", key);
      missing = missing.filter((subject) => !obtained.has(subject));
      if (missing.length === 0) return obtained;
      await this.#add(missing, create, last);
    }
  }

  async find(subject: string): Promise<SubjectKey | undefined> {
    await this.#last();
    return this.#find(subject);
  }

  async withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    // A leader that is cut off may lack a key. Without it, the data would count as forgotten.
    await this.#last();
    const found = await inChunks(ids, async (id) => keyOf(await this.#stored(`*.${tokenOf(id)}`)));
    return new Map(found.flatMap((key) => (key === undefined ? [] : [[key.id, key.key]])));
  }

  async destroy(ids: readonly string[]): Promise<void> {
    await inChunks(ids, async (id) => {
      for (;;) {
        const stored = await this.#stored(`*.${tokenOf(id)}`);
        if (stored === undefined) return;
        // Overwrites its bytes.
        await this.#ask((timeout) => this.#delete(stored.sequence, timeout));
      }
    });
  }

  async count(): Promise<number> {
    const { state } = await this.#ask((timeout) => this.#api.info(this.#stream, {}, timeout));
    return state.messages;
  }

  /** Adds keys, unless other messages came after `last`. */
  async #add(subjects: readonly string[], create: () => SubjectKey, last: number): Promise<void> {
    for (const [i, subject] of subjects.entries()) {
      const { id, key } = create();
      const text = JSON.stringify({ subject, id, key: Buffer.from(key).toString("hex") } satisfies StoredKey);
      const address = `${this.#prefix}.${await digestOf(subject)}.${tokenOf(id)}`;
      try {
        await this.#api.read((timeout) => this.#api.publish(address, text, last + i, timeout));
      } catch (error) {
        // The next look tells whether it is there.
        if (error instanceof ApiFailure && error.code === ERROR_CODES.wrongLastSequence) return;
        throw readFailed(error, "the keys of personal fields");
      }
    }
  }

  async #delete(seq: number, timeout: number): Promise<void> {
    try {
      await this.#api.call(`STREAM.MSG.DELETE.${this.#stream}`, { seq, no_erase: false }, timeout);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.code !== ERROR_CODES.messageDeleteFailed) throw error;
    }
  }

  /** The sequence of the last key, from a leader that no other one has replaced. */
  async #last(): Promise<number> {
    const { state } = await this.#ask((timeout) => this.#api.info(this.#stream, {}, timeout));
    return state.last_seq;
  }

  async #find(subject: string): Promise<SubjectKey | undefined> {
    return keyOf(await this.#stored(`${await digestOf(subject)}.*`));
  }

  #stored(address: string) {
    const which = { last_by_subj: `${this.#prefix}.${address}` };
    return this.#ask((timeout) => this.#api.message(this.#stream, which, timeout));
  }

  async #ask<T>(work: (timeout: number) => Promise<T>): Promise<T> {
    try {
      return await this.#api.read(work);
    } catch (error) {
      throw readFailed(error, "the keys of personal fields");
    }
  }
}

function keyOf(stored: { readonly data: Buffer } | undefined): SubjectKey | undefined {
  if (stored === undefined) return undefined;
  const { id, key } = JSON.parse(stored.data.toString()) as StoredKey;
  return { id, key: Uint8Array.from(Buffer.from(key, "hex")) };
}

/** A subject must have no spaces, dots or wildcards. */
function tokenOf(id: string): string {
  return Buffer.from(id).toString("base64url");
}

/** A subject must be short, and may be seen by others. */
async function digestOf(subject: string): Promise<string> {
  const digest = await globalThis.crypto.subtle.digest("SHA-256", new TextEncoder().encode(subject));
  return Buffer.from(digest).toString("hex");
}

async function inChunks<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += AT_ONCE)
    for (const result of await Promise.all(items.slice(i, i + AT_ONCE).map(work))) results.push(result);
  return results;
}
