import type { ScheduledCommand } from "./reaction.ts";

/** Commands that wait for their time, by identity. */
export class ScheduledCommands {
  readonly #byId = new Map<string, ScheduledCommand>();
  /** Unknown after a removal, until it is read. */
  #nextDue: number | undefined = Infinity;

  constructor(commands: Iterable<ScheduledCommand> = []) {
    for (const command of commands) this.schedule(command);
  }

  /** Time of the next command; `Infinity` if there is none. */
  get nextDue(): number {
    if (this.#nextDue === undefined) {
      let next = Infinity;
      for (const { due } of this.#byId.values()) next = Math.min(next, due);
      this.#nextDue = next;
    }
    return this.#nextDue;
  }

  get all(): readonly ScheduledCommand[] {
    return [...this.#byId.values()];
  }

  schedule(command: ScheduledCommand): void {
    this.#byId.set(command.id, command);
    if (this.#nextDue !== undefined) this.#nextDue = Math.min(this.#nextDue, command.due);
  }

  remove(id: string): void {
    if (this.#byId.delete(id)) this.#nextDue = undefined;
  }

  /** The commands whose time has come, the earliest first. */
  due(now: number): readonly ScheduledCommand[] {
    if (this.nextDue > now) return [];
    return this.all.filter(({ due }) => due <= now).sort((a, b) => a.due - b.due);
  }

  /** Identities of the commands that have one of the keys. */
  idsWithKeys(keys: ReadonlySet<string>): string[] {
    if (keys.size === 0) return [];
    return this.all.filter(({ key }) => key !== undefined && keys.has(key)).map(({ id }) => id);
  }
}
