import { subjectsOf } from "../aggregate/personal-fields.ts";
import type { ConsumerAppend, ConsumerNote, StoredDeadLetter } from "../event-store/event-store.ts";
import { type Box, isBox, open, seal } from "./boxes.ts";
import type { KeyRing } from "./key-ring.ts";
import type { PersonalModel } from "./personal-model.ts";

/** A command as notes and dead letters keep it. */
interface KeptCommand {
  readonly type: string;
  readonly data?: unknown;
}

/** A scheduled command in a note. */
interface KeptSchedule {
  readonly id: string;
  readonly envelope: {
    readonly aggregate: string;
    readonly id: string;
    readonly command: KeptCommand;
    readonly context?: unknown;
  };
  readonly cause?: { readonly position: number };
  readonly personal?: unknown;
}

/** The parts of a dead letter that may be personal. */
interface KeptLetter {
  readonly envelope?: {
    readonly aggregate_type: string;
    readonly instance_id: string;
    readonly command: KeptCommand;
    readonly context: unknown;
  };
  readonly event?: { readonly position: number };
  readonly cause?: { readonly position: number };
  readonly error?: unknown;
  readonly rejection?: unknown;
  readonly personal?: unknown;
}

/** What the keys of a note's parts depend on. */
export interface NoteKeys {
  /** The keys with which the personal parts of an event are encrypted. */
  ofEvent(position: number): Promise<readonly string[]>;
  /** The keys of persons, who get one if they have none. */
  ofSubjects(subjects: readonly string[]): Promise<readonly string[]>;
  /** The key of what is made again after each forgetting, if the state of a consumer may have personal data. */
  ofConsumer(name: string): Promise<readonly string[]>;
}

/** The text of a forgotten person's dead letter. */
const FORGOTTEN_ERROR = "a person whose data it had was forgotten";

/** Encrypts what process managers, schedules and subscriptions keep of commands and events, and opens it again. */
export class PersonalNotes {
  readonly #ring: KeyRing;
  readonly #model: PersonalModel;
  readonly #keys: NoteKeys;

  constructor(ring: KeyRing, model: PersonalModel, keys: NoteKeys) {
    this.#ring = ring;
    this.#model = model;
    this.#keys = keys;
  }

  /** The append as it is written. */
  async seal(append: ConsumerAppend): Promise<ConsumerAppend> {
    const { name, note, deadLetters } = append;
    const { scheduled } = note as { readonly scheduled?: readonly KeptSchedule[] };
    const sealedNote =
      scheduled === undefined || scheduled.length === 0
        ? note
        : { ...(note as object), scheduled: await inOrder(scheduled, (command) => this.#sealSchedule(name, command)) };
    if (deadLetters === undefined || deadLetters.length === 0) return { ...append, note: sealedNote };
    return {
      ...append,
      note: sealedNote,
      deadLetters: await inOrder(deadLetters, (letter) => this.#sealLetter(name, letter)),
    };
  }

  async #sealSchedule(name: string, command: KeptSchedule): Promise<unknown> {
    // An import brings what is encrypted already.
    if (isBox(command.personal)) return command;
    const { envelope, cause, id } = command;
    const { aggregate, id: instance, command: sent, context } = envelope;
    const keys = await this.#keysOf(name, cause?.position, { aggregate, id: instance, command: sent });
    if (keys.length === 0) return command;
    const text = JSON.stringify({ data: sent.data, context });
    const box = seal(this.#ring, keys, placeOf("schedule", name, id), text);
    return { ...command, envelope: { aggregate, id: instance, command: { type: sent.type } }, personal: box };
  }

  async #sealLetter(name: string, { key, letter }: StoredDeadLetter): Promise<StoredDeadLetter> {
    const { envelope, event, cause, error, rejection } = letter as KeptLetter;
    if (isBox(letter["personal"])) return { key, letter };
    const address = envelope && {
      aggregate: envelope.aggregate_type,
      id: envelope.instance_id,
      command: envelope.command,
    };
    const keys = await this.#keysOf(name, event?.position ?? cause?.position, address);
    if (keys.length === 0) return { key, letter };
    const text = JSON.stringify({ command: envelope?.command, context: envelope?.context, error, rejection });
    const personal = seal(this.#ring, keys, placeOf("letter", name, key), text);
    const left = {
      ...letter,
      ...(envelope && { envelope: { ...envelope, command: { type: envelope.command.type }, context: null } }),
      error: FORGOTTEN_ERROR,
      ...(rejection === undefined ? {} : { rejection: null }),
    };
    return { key, letter: { ...left, personal } };
  }

  async #keysOf(
    name: string,
    position: number | undefined,
    address: { readonly aggregate: string; readonly id: string; readonly command: KeptCommand } | undefined,
  ): Promise<readonly string[]> {
    const declared = address && this.#model.ofCommand(address.aggregate, address.command.type);
    const subjects = declared === undefined ? [] : subjectsOf(declared, address?.command.data, address?.id ?? "");
    const keys = [
      ...(position === undefined ? [] : await this.#keys.ofEvent(position)),
      ...(subjects.length === 0 ? [] : await this.#keys.ofSubjects(subjects)),
      ...(await this.#keys.ofConsumer(name)),
    ];
    // The payload has placeholders for those who are forgotten already.
    return keys.filter((id) => this.#ring.key(id) !== undefined);
  }

  /** Notes as readers see them. A scheduled command whose keys are not there any more is `forgotten`. */
  async open(name: string, notes: readonly ConsumerNote[]): Promise<readonly ConsumerNote[]> {
    const boxes = notes.flatMap(({ note }) =>
      schedulesOf(note).flatMap(({ personal }) => (isBox(personal) ? [personal] : [])),
    );
    if (boxes.length === 0) return notes;
    await this.#load(boxes);
    return notes.map(({ sequence, note }) => {
      const scheduled = schedulesOf(note);
      if (scheduled.length === 0) return { sequence, note };
      return {
        sequence,
        note: { ...(note as object), scheduled: scheduled.map((command) => this.#openSchedule(name, command)) },
      };
    });
  }

  #openSchedule(name: string, { personal, ...command }: KeptSchedule): unknown {
    if (!isBox(personal)) return command;
    const opened = open(this.#ring, personal, placeOf("schedule", name, command.id));
    if (typeof opened === "string") return { ...command, forgotten: true };
    const { data, context } = opened.value as { readonly data?: unknown; readonly context?: unknown };
    const { type } = command.envelope.command;
    const envelope = { ...command.envelope, command: data === undefined ? { type } : { type, data } };
    return { ...command, envelope: context === undefined ? envelope : { ...envelope, context } };
  }

  /** Dead letters as readers see them. One whose keys are not there any more is `forgotten`, and has no payload. */
  async openLetters(name: string, letters: readonly StoredDeadLetter[]): Promise<readonly StoredDeadLetter[]> {
    const boxes = letters.flatMap(({ letter }) => (isBox(letter["personal"]) ? [letter["personal"]] : []));
    if (boxes.length === 0) return letters;
    await this.#load(boxes);
    return letters.map((letter) => this.#openLetter(name, letter));
  }

  #openLetter(name: string, kept: StoredDeadLetter): StoredDeadLetter {
    const { personal, ...letter } = kept.letter as KeptLetter;
    if (!isBox(personal)) return kept;
    const opened = open(this.#ring, personal, placeOf("letter", name, kept.key));
    if (typeof opened === "string") return { key: kept.key, letter: { ...letter, forgotten: true } };
    const { command, context, error, rejection } = opened.value as Record<string, unknown>;
    return {
      key: kept.key,
      letter: {
        ...letter,
        ...(letter.envelope && { envelope: { ...letter.envelope, command, context } }),
        error,
        ...(rejection === undefined ? {} : { rejection }),
      },
    };
  }

  #load(boxes: readonly Box[]): Promise<void> {
    return this.#ring.load(boxes.flatMap(({ keys }) => keys));
  }
}

function schedulesOf(note: unknown): readonly KeptSchedule[] {
  const { scheduled } = (note ?? {}) as { readonly scheduled?: readonly KeptSchedule[] };
  return Array.isArray(scheduled) ? scheduled : [];
}

function placeOf(kind: string, consumer: string, id: string): readonly string[] {
  return [kind, consumer, id];
}

async function inOrder<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const done: R[] = [];
  for (const item of items) done.push(await work(item));
  return done;
}
