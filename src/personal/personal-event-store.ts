import { appendAll } from "../arrays.ts";
import { EventfoldError } from "../errors.ts";
import { DelegatingEventStore } from "../event-store/delegating-event-store.ts";
import type {
  Checkpoint,
  Commit,
  CommitResult,
  ConsumerKind,
  ConsumerNote,
  EventStore,
  ReadAllOptions,
  ReadStreamOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StreamName,
} from "../event-store/event-store.ts";
import type { SubjectKeys } from "../event-store/subject-keys.ts";
import { findCipher } from "./cipher.ts";
import { CommitSealer } from "./commit-sealer.ts";
import { FORGOTTEN, ForgottenKeys } from "./forgotten-keys.ts";
import { KeyRing } from "./key-ring.ts";
import { CACHES, PersonalCaches } from "./personal-caches.ts";
import { boxesOf, PersonalStoredEvent } from "./personal-events.ts";
import type { PersonalModel } from "./personal-model.ts";
import { PersonalNotes } from "./personal-notes.ts";

/**
 * A store whose events may have personal fields. The readers above it get plain values; the store below it gets only encrypted ones,
 * with a key for each person. To forget a person is to destroy the key.
 *
 * A forgetting is a note in the log with the ids of the keys, so that all processes learn of it: each looks for such notes before it
 * reads and before it commits. Then a new era begins. States that were made of events in an earlier era are dropped, and a commit that was
 * decided in one is answered as a conflict, so that it is decided again.
 */
export class PersonalEventStore extends DelegatingEventStore {
  readonly #ring: KeyRing;
  readonly #forgotten: ForgottenKeys;
  readonly #notes: PersonalNotes;
  readonly #caches: PersonalCaches;
  readonly #sealer: CommitSealer;
  readonly #listeners = new Set<() => void>();

  private constructor(inner: EventStore, model: PersonalModel, ring: KeyRing, mayWrite: boolean) {
    super(inner);
    this.#ring = ring;
    this.#forgotten = new ForgottenKeys(inner, ring, mayWrite, () => {
      for (const listener of this.#listeners) listener();
    });
    this.#caches = new PersonalCaches(ring, model);
    const { ofConsumer } = this.#caches;
    const ofEvent = async (position: number): Promise<readonly string[]> => {
      const ids: string[] = [];
      for await (const batch of inner.readAll({ from: position, to: position }))
        for (const { meta } of batch) for (const { keys } of boxesOf(meta) ?? []) appendAll(ids, keys);
      await ring.load(ids);
      return ids;
    };
    const ofSubjects = async (subjects: readonly string[]): Promise<readonly string[]> => {
      await ring.obtain(subjects);
      return subjects.map((subject) => ring.ofSubject(subject)?.id ?? "");
    };
    this.#notes = new PersonalNotes(ring, model, { ofEvent, ofSubjects, ofConsumer });
    this.#sealer = new CommitSealer(inner, model, ring, this.#notes, () => this.#look());
  }

  /** `keys` says where the keys are kept. A store that must not write leaves keys that others have left to be destroyed. */
  static async open(
    inner: EventStore,
    model: PersonalModel,
    keys: SubjectKeys,
    mayWrite: boolean,
  ): Promise<PersonalEventStore> {
    const store = new PersonalEventStore(inner, model, new KeyRing(keys, findCipher()), mayWrite);
    await store.#forgotten.open();
    return store;
  }

  get era(): number {
    return this.#ring.era;
  }

  watchEra(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Destroys the key of a person. False if the person has none. */
  async forget(subject: string): Promise<boolean> {
    if (typeof subject !== "string" || subject === "")
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `forget expected the subject as a text that is not empty, found ${subject === "" ? '""' : typeof subject}`,
      );
    for (;;) {
      await this.#look();
      const own = await this.#ring.keys.find(subject);
      if (own === undefined) return false;
      const caches = await this.#ring.keys.find(CACHES);
      if (await this.#forgotten.forget([own, ...(caches === undefined ? [] : [caches])].map(({ id }) => id)))
        return true;
    }
  }

  /** How many persons have a key. */
  async countSubjects(): Promise<number> {
    const { keys } = this.#ring;
    const [count, caches] = await Promise.all([keys.count(), keys.find(CACHES)]);
    return caches === undefined ? count : count - 1;
  }

  override commit(commit: Commit): Promise<CommitResult> {
    return this.#sealer.commit(commit);
  }

  /** Commits what rests on nothing that was read, e.g. in an import. Fields that are encrypted already stay as they are. */
  commitGiven(commit: Commit): Promise<CommitResult> {
    return this.#sealer.commitGiven(commit);
  }

  /** Sees what was committed and who was forgotten. A forgetting belongs to no stream, so all commits are looked at. */
  override async refresh(stream?: StreamName): Promise<void> {
    await this.inner.refresh(stream);
    await this.#look();
  }

  async #look(): Promise<void> {
    if (this.inner.refreshNow === undefined) await this.inner.refresh();
    else this.inner.refreshNow();
    await this.#forgotten.look();
  }

  override readStream(stream: StreamName, options?: ReadStreamOptions): AsyncIterable<readonly StoredEvent[]> {
    return this.#opened(() => this.inner.readStream(stream, options));
  }

  override readAll(options?: ReadAllOptions): AsyncIterable<readonly StoredEvent[]> {
    return this.#opened(() => this.inner.readAll(options));
  }

  async *#opened(
    read: () => AsyncIterable<readonly StoredEvent[]>,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    await this.#look();
    for await (const batch of read()) {
      const boxes = batch.map(({ meta }) => boxesOf(meta));
      if (boxes.every((each) => each === undefined)) {
        yield batch;
        continue;
      }
      await this.#ring.load(boxes.flatMap((each = []) => each.flatMap(({ keys }) => keys)));
      yield batch.map((event, index) => {
        const own = boxes[index];
        if (own === undefined) return event;
        this.#caches.found(event.stream.type);
        return new PersonalStoredEvent(event, own, this.#ring);
      });
    }
  }

  override async consumerNotes(name: string, after: number, limit?: number): Promise<readonly ConsumerNote[]> {
    return this.#notes.open(name, await this.inner.consumerNotes(name, after, limit));
  }

  override async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    return this.#notes.openLetters(name, await this.inner.deadLetters(name));
  }

  override async deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    const letter = await this.inner.deadLetter(name, key);
    return letter === undefined ? undefined : (await this.#notes.openLetters(name, [letter]))[0];
  }

  override async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    return this.#caches.openCheckpoint(kind, name, await this.inner.loadCheckpoint(kind, name));
  }

  override async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    const sealed = await this.#caches.sealCheckpoint(kind, name, checkpoint);
    if (sealed !== undefined) await this.inner.saveCheckpoint(kind, name, sealed);
  }

  override async loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    return this.#caches.openSnapshot(stream, await this.inner.loadSnapshot(stream, fingerprint));
  }

  override async saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const sealed = await this.#caches.sealSnapshot(stream, snapshot).catch(() => undefined);
    if (sealed !== undefined) await this.inner.saveSnapshot(stream, sealed);
  }

  override async listConsumers(): Promise<readonly string[]> {
    return (await this.inner.listConsumers()).filter((name) => name !== FORGOTTEN);
  }
}
