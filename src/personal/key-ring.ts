import { EventfoldError } from "../errors.ts";
import type { SubjectKey, SubjectKeys } from "../event-store/subject-keys.ts";
import type { Cipher } from "./cipher.ts";

/** How often forgotten keys are destroyed that their place gives again. */
const MAX_ATTEMPTS = 5;

/** The keys that an open store knows, and which of them are forgotten. */
export class KeyRing {
  readonly cipher: Cipher;
  readonly keys: SubjectKeys;
  readonly #byId = new Map<string, Uint8Array>();
  readonly #bySubject = new Map<string, SubjectKey>();
  /** Ids of keys that do not exist. */
  readonly #missing = new Set<string>();
  readonly #forgotten = new Set<string>();
  /** Changes when keys are forgotten. */
  era = 0;

  constructor(keys: SubjectKeys, cipher: Cipher) {
    this.keys = keys;
    this.cipher = cipher;
  }

  /** A key that was loaded and is not forgotten. */
  key(id: string): Uint8Array | undefined {
    return this.#forgotten.has(id) ? undefined : this.#byId.get(id);
  }

  /** The key of a person, if it was obtained and is not forgotten. */
  ofSubject(subject: string): SubjectKey | undefined {
    return this.#bySubject.get(subject);
  }

  /** Makes `key` know these ids. */
  async load(ids: Iterable<string>): Promise<void> {
    const unknown = [...new Set(ids)].filter((id) => !this.#byId.has(id) && !this.#missing.has(id));
    if (unknown.length === 0) return;
    const found = await this.keys.withIds(unknown);
    for (const id of unknown) {
      const key = found.get(id);
      if (key === undefined) this.#missing.add(id);
      else this.#byId.set(id, key);
    }
  }

  /** Makes `ofSubject` know these persons. Those who have no key get one. */
  async obtain(subjects: Iterable<string>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const unknown = [...new Set(subjects)].filter((subject) => !this.#bySubject.has(subject));
      if (unknown.length === 0) return;
      const found = await this.keys.obtain(unknown, () => this.cipher.newKey());
      // A process that has died while it forgot them has left them.
      const left = [...found.values()].map(({ id }) => id).filter((id) => this.#forgotten.has(id));
      if (left.length > 0 && attempt === MAX_ATTEMPTS)
        throw new EventfoldError(
          "IO_ERROR",
          `expected that ${left.length} forgotten keys are destroyed, found that their place gives them again; check the place of the keys`,
        );
      if (left.length > 0) await this.keys.destroy(left);
      for (const [subject, key] of found) {
        if (this.#forgotten.has(key.id)) continue;
        this.#bySubject.set(subject, key);
        this.#byId.set(key.id, key.key);
        this.#missing.delete(key.id);
      }
    }
  }

  /** From now on, nothing that was encrypted with these keys can be read. */
  forget(ids: readonly string[]): void {
    for (const id of ids) {
      this.#forgotten.add(id);
      this.#byId.delete(id);
    }
    for (const [subject, { id }] of this.#bySubject) if (this.#forgotten.has(id)) this.#bySubject.delete(subject);
    this.era++;
  }
}
