import type { Commit, CommitResult, EventStore, StreamAppend } from "../event-store/event-store.ts";
import type { KeyRing } from "./key-ring.ts";
import { boxesOf, sealParts, takeParts, type TakenEvent } from "./personal-events.ts";
import type { PersonalModel } from "./personal-model.ts";
import type { PersonalNotes } from "./personal-notes.ts";

/** A commit that waits to be encrypted. */
interface Waiting {
  readonly commit: Commit;
  /** The era in which it was decided; `undefined` if it rests on nothing that was read. */
  readonly era: number | undefined;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

/** A commit whose personal parts are taken out, by stream. */
interface Taken extends Waiting {
  readonly events: readonly (readonly TakenEvent[])[];
}

/**
 * Encrypts commits and passes them on in the order in which they came, all that are waiting at once: they share the look for forgotten
 * persons and the flush of new keys.
 */
export class CommitSealer {
  readonly #store: EventStore;
  readonly #model: PersonalModel;
  readonly #ring: KeyRing;
  readonly #notes: PersonalNotes;
  /** Looks for persons whom other processes have forgotten. */
  readonly #look: () => Promise<void>;
  #waiting: Waiting[] = [];
  #isWorking = false;

  constructor(store: EventStore, model: PersonalModel, ring: KeyRing, notes: PersonalNotes, look: () => Promise<void>) {
    this.#store = store;
    this.#model = model;
    this.#ring = ring;
    this.#notes = notes;
    this.#look = look;
  }

  commit(commit: Commit): Promise<CommitResult> {
    return this.#add(commit, commit.consumer?.era ?? this.#ring.era);
  }

  /** Commits what rests on nothing that was read, so that no forgetting puts it out of date. */
  commitGiven(commit: Commit): Promise<CommitResult> {
    return this.#add(commit, undefined);
  }

  #add(commit: Commit, era: number | undefined): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ commit, era, resolve, reject });
      void this.#work();
    });
  }

  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    while (this.#waiting.length > 0) await this.#passOn(this.#waiting.splice(0));
    this.#isWorking = false;
  }

  /** Never rejects. */
  async #passOn(waiting: readonly Waiting[]): Promise<void> {
    try {
      await this.#look();
    } catch (error) {
      for (const each of waiting) fail(each, error);
      return;
    }
    const taken = waiting.flatMap((each): Taken[] => {
      try {
        return [{ ...each, events: each.commit.appends.map((append) => this.#take(append)) }];
      } catch (error) {
        fail(each, error);
        return [];
      }
    });
    try {
      const subjects = taken.flatMap(subjectsOf);
      if (subjects.length > 0) await this.#ring.obtain(subjects);
    } catch (error) {
      for (const each of taken) fail(each, error);
      return;
    }
    for (const each of taken) await this.#commit(each);
  }

  #take({ stream, events }: StreamAppend): TakenEvent[] {
    return events.map((draft) => {
      const declared = this.#model.ofEvent(stream.type, draft.type, draft.schemaVersion);
      return declared === undefined || boxesOf(draft.meta) !== undefined
        ? { draft, parts: [] }
        : takeParts(declared, stream, draft);
    });
  }

  async #commit(taken: Taken): Promise<void> {
    const { commit, era, events, resolve, reject } = taken;
    try {
      const consumer = commit.consumer === undefined ? undefined : await this.#notes.seal(commit.consumer);
      if (era === undefined) await this.#ring.obtain(subjectsOf(taken));
      else if (era !== this.#ring.era) {
        answerConflict(taken);
        return;
      }
      const appends = commit.appends.map((append, index) => ({
        ...append,
        events: (events[index] ?? []).map((event) => sealParts(this.#ring, append.stream, event)),
      }));
      // The next one must not wait for the answer.
      this.#store.commit({ ...commit, appends, ...(consumer === undefined ? {} : { consumer }) }).then(resolve, reject);
    } catch (error) {
      fail(taken, error);
    }
  }
}

function subjectsOf({ events }: Taken): string[] {
  return events.flatMap((each) => each.flatMap(({ parts }) => parts.map(({ subject }) => subject)));
}

function fail({ commit: { chain }, reject }: Waiting, error: unknown): void {
  if (chain !== undefined) chain.broken = true;
  reject(error);
}

/** What the commit rests on is out of date, as after a commit of another process. */
function answerConflict({ commit: { appends, consumer, chain }, resolve }: Waiting): void {
  if (chain !== undefined) chain.broken = true;
  const [first] = appends;
  if (first !== undefined) resolve({ ok: false, stream: first.stream, actualVersion: first.expectedVersion });
  else if (consumer !== undefined)
    resolve({ ok: false, consumer: consumer.name, actualSequence: consumer.expectedSequence });
  else resolve({ ok: true, position: 0 });
}
