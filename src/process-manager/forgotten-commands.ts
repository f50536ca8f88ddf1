import type { CommandEnvelope } from "../aggregate/messages.ts";
import { InvalidCommandError } from "../errors.ts";
import type { EventStore, StoredDeadLetter, StoredEvent } from "../event-store/event-store.ts";
import { letterOf, withCommand } from "./dead-letter.ts";
import type { Note } from "./note.ts";
import { causeOf, identityOf, type Outputs, type ScheduledCommand } from "./reaction.ts";
import type { ScheduledCommands } from "./scheduled-commands.ts";

/** The note that follows once all events were reacted to again. */
export interface RestoredCommands {
  readonly note: Note;
  readonly deadLetters: readonly StoredDeadLetter[];
}

/**
 * The scheduled commands and dead letters of a process manager that cannot be read any more, because a person was forgotten. The manager
 * makes them again while it reacts to its events once more: those of other persons as they were, those of the forgotten one with placeholders.
 */
export class ForgottenCommands {
  readonly #manager: string;
  readonly #scheduled: ReadonlyMap<string, ScheduledCommand>;
  readonly #letters: ReadonlyMap<string, StoredDeadLetter>;
  /** Commands that were made again, by identity. */
  readonly #made = new Map<string, CommandEnvelope>();

  private constructor(manager: string, scheduled: readonly ScheduledCommand[], letters: readonly StoredDeadLetter[]) {
    this.#manager = manager;
    this.#scheduled = new Map(scheduled.map((command) => [command.id, command]));
    this.#letters = new Map(letters.map((letter) => [letter.key, letter]));
  }

  /** Nothing if all can be read. */
  static async find(
    events: EventStore,
    manager: string,
    { forgotten }: ScheduledCommands,
  ): Promise<ForgottenCommands | undefined> {
    if (events.era === undefined) return undefined;
    const letters = (await events.deadLetters(manager)).filter(({ letter }) => letter["forgotten"] === true);
    return forgotten.length + letters.length === 0 ? undefined : new ForgottenCommands(manager, forgotten, letters);
  }

  /** Takes over what a reaction to an event has made. */
  take(event: StoredEvent, { commands, schedule }: Outputs): void {
    const take = (id: string, envelope: CommandEnvelope): void => {
      if (this.#scheduled.has(id) || this.#letters.has(id)) this.#made.set(id, envelope);
    };
    for (const { id, envelope } of schedule) take(id, envelope);
    if (commands.length === 0) return;
    const cause = causeOf(event);
    for (const [index, envelope] of commands.entries()) take(identityOf(this.#manager, cause, index), envelope);
  }

  /** What to note: all that was made again, and a dead letter for each scheduled command that was not. */
  restored(time: number): RestoredCommands {
    const scheduled: ScheduledCommand[] = [];
    const lost: ScheduledCommand[] = [];
    for (const { forgotten: _, ...command } of this.#scheduled.values()) {
      const envelope = this.#made.get(command.id);
      if (envelope === undefined) lost.push(command);
      else scheduled.push({ ...command, envelope });
    }
    const buried = lost.map(({ id, envelope, cause }) => {
      const delivery = { manager: this.#manager, identity: id, envelope, cause };
      const error = new InvalidCommandError(
        "its payload was lost when a person was forgotten, and the process manager does not make this command again",
      );
      return letterOf(delivery, {}, error, time);
    });
    const letters = [...this.#letters].flatMap(([key, letter]) => {
      const envelope = this.#made.get(key);
      return envelope === undefined ? [] : [withCommand(letter, envelope)];
    });
    return {
      note: {
        ...(scheduled.length === 0 ? {} : { scheduled }),
        ...(lost.length === 0 ? {} : { cancelled: lost.map(({ id }) => id) }),
      },
      deadLetters: [...letters, ...buried],
    };
  }
}
