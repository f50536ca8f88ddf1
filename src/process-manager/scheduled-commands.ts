import type { ScheduledCommand } from "./reaction.ts";

/** Commands that wait for their time, by identity. */
export class ScheduledCommands {
  readonly #byId = new Map<string, ScheduledCommand>();
  readonly #byKey = new Map<string, Set<ScheduledCommand>>();
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
    this.remove(command.id);
    this.#byId.set(command.id, command);
    if (command.key !== undefined) {
      const sameKey = this.#byKey.get(command.key);
      if (sameKey === undefined) this.#byKey.set(command.key, new Set([command]));
      else sameKey.add(command);
    }
    if (this.#nextDue !== undefined) this.#nextDue = Math.min(this.#nextDue, command.due);
  }

  remove(id: string): void {
    const command = this.#byId.get(id);
    if (command === undefined) return;
    this.#byId.delete(id);
    this.#nextDue = undefined;
    if (command.key === undefined) return;
    const sameKey = this.#byKey.get(command.key);
    sameKey?.delete(command);
    if (sameKey?.size === 0) this.#byKey.delete(command.key);
  }

  /** The commands whose time has come, the earliest first. */
  due(now: number): readonly ScheduledCommand[] {
    if (this.nextDue > now) return [];
    return this.all.filter(({ due }) => due <= now).sort((a, b) => a.due - b.due);
  }

  /** The commands with one of these keys that events before a position have scheduled. */
  withKeys(keys: Iterable<string>, before: number): ScheduledCommand[] {
    const found: ScheduledCommand[] = [];
    for (const key of keys)
      for (const command of this.#byKey.get(key) ?? []) if (command.cause.position < before) found.push(command);
    return found;
  }
}
