/** A key of one person. */
export interface SubjectKey {
  /** A random name that says nothing about the person. Events have it beside what is encrypted with the key. */
  readonly id: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
}

/**
 * Where the keys of personal data are kept, one for each person who has some. A storage has such a place; `keys` of the builder takes
 * another one, e.g. in a keychain or a key management service. A call that cannot be answered rejects: then commands and reads fail
 * with its error. Several processes may use one place at the same time.
 */
export interface SubjectKeys {
  /**
   * The keys of some persons. Makes those that do not exist yet, with `create`, and resolves when they are durable: events are encrypted
   * with them next, and can never be read without them. All processes must get the same key of a person.
   */
  obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>>;
  /** The key of a person, if there is one. */
  find(subject: string): Promise<SubjectKey | undefined>;
  /** The keys with these ids, as far as they exist. */
  withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>>;
  /** Destroys keys, and what says to whom they belong, all or none. Durable when it resolves. Keys that do not exist are destroyed already. */
  destroy(ids: readonly string[]): Promise<void>;
  /** How many persons have a key. */
  count(): Promise<number>;
}

/** The keys of a store in memory. */
export class MemorySubjectKeys implements SubjectKeys {
  readonly #bySubject = new Map<string, SubjectKey>();

  async obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>> {
    const found = new Map<string, SubjectKey>();
    for (const subject of subjects) {
      const key = this.#bySubject.get(subject) ?? create();
      this.#bySubject.set(subject, key);
      found.set(subject, key);
    }
    return found;
  }

  async find(subject: string): Promise<SubjectKey | undefined> {
    return this.#bySubject.get(subject);
  }

  async withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const wanted = new Set(ids);
    return new Map([...this.#bySubject.values()].filter(({ id }) => wanted.has(id)).map(({ id, key }) => [id, key]));
  }

  async destroy(ids: readonly string[]): Promise<void> {
    for (const [subject, { id }] of this.#bySubject) if (ids.includes(id)) this.#bySubject.delete(subject);
  }

  async count(): Promise<number> {
    return this.#bySubject.size;
  }
}
