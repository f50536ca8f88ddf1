import { EventfoldError } from "../errors.ts";
import { DelegatingEventStore } from "../event-store/delegating-event-store.ts";
import type { Commit, CommitResult, EventStore } from "../event-store/event-store.ts";
import type { SubjectKeys } from "../event-store/subject-keys.ts";
import { PersonalEventStore } from "./personal-event-store.ts";
import type { PersonalModel } from "./personal-model.ts";

/** How a store is opened for personal data. */
export interface PersonalOptions {
  /** Where the keys are kept, if not in the storage. */
  readonly keys: SubjectKeys | undefined;
  readonly readOnly: boolean;
}

/**
 * The store to work with: one that encrypts, if the definitions have personal fields or the store has keys; else the given one. Throws
 * `INVALID_ARGUMENT` if there is no place for keys.
 */
export async function openPersonalStore(
  events: EventStore,
  model: PersonalModel,
  { keys = events.keys, readOnly }: PersonalOptions,
): Promise<EventStore> {
  if (keys === undefined) {
    if (!model.isPersonal) return events;
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "expected a place for the keys of personal fields, found a storage that has none; call keys(…) of the builder",
    );
  }
  if (!model.isPersonal && (await keys.count()) === 0) return events;
  return PersonalEventStore.open(events, model, keys, !readOnly);
}

/** Nothing is declared, and everything that was encrypted is opened. */
const NO_MODEL: PersonalModel = {
  isPersonal: false,
  ofEvent: () => undefined,
  ofCommand: () => undefined,
  declares: () => false,
  sourcesOf: () => undefined,
};

/** Destroys the key of a person. False if the person has none. */
export async function forgetSubject(events: EventStore, subject: string): Promise<boolean> {
  if (events instanceof PersonalEventStore) return events.forget(subject);
  const { keys } = events;
  if (keys === undefined) return false;
  // Another process has begun to encrypt since this store was opened.
  return (await PersonalEventStore.open(events, NO_MODEL, keys, true)).forget(subject);
}

/** How many persons have a key; `undefined` for a store that does not encrypt. */
export async function countSubjects(events: EventStore): Promise<number | undefined> {
  return events instanceof PersonalEventStore ? events.countSubjects() : undefined;
}

/** The store as it is kept: with encrypted fields. What leaves the store leaves it so. */
export function encryptedStore(events: EventStore): EventStore {
  return events instanceof PersonalEventStore ? events.inner : events;
}

/** The store as it is kept, but that plain fields are encrypted when they are written. Encrypted ones are written as they are. */
export function encryptingStore(events: EventStore): EventStore {
  return events instanceof PersonalEventStore ? new EncryptingStore(events) : events;
}

class EncryptingStore extends DelegatingEventStore {
  readonly #store: PersonalEventStore;

  constructor(store: PersonalEventStore) {
    super(store.inner);
    this.#store = store;
  }

  override commit(commit: Commit): Promise<CommitResult> {
    return this.#store.commitGiven(commit);
  }
}
