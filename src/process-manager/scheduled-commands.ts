import type { Note } from "./note.ts";
import type { ScheduledCommand } from "./reaction.ts";

/** Commands that wait for their time, by identity. */
export class ScheduledCommands {
  readonly #byId = new Map<string, ScheduledCommand>();
  readonly #byKey = new Map<string, Set<ScheduledCommand>>();
  /** Unknown after a removal, until it is read. */
  #nextDue: number | undefined = Infinity;

  readonly #isSendable: (aggregate: string) => boolean;
  /** The aggregates whose commands `#nextDue` leaves out. */
  readonly #leftOut = new Set<string>();

  /** `isSendable` tells whether this process can send commands to an aggregate; others wait for a process that can. */
  constructor(commands: Iterable<ScheduledCommand> = [], isSendable: (aggregate: string) => boolean = () => true) {
    this.#isSendable = isSendable;
    for (const command of commands) this.schedule(command);
  }

  /** Time of the next command; `Infinity` if there is none. */
  get nextDue(): number {
    for (const aggregate of this.#leftOut) if (this.#isSendable(aggregate)) this.#nextDue = undefined;
    if (this.#nextDue === undefined) {
      let next = Infinity;
      this.#leftOut.clear();
      for (const command of this.#byId.values()) next = Math.min(next, this.#dueTime(command));
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
    if (this.#nextDue !== undefined) this.#nextDue = Math.min(this.#nextDue, this.#dueTime(command));
  }

  /** Whether there are some that went with a forgotten person. */
  get hasForgotten(): boolean {
    for (const { forgotten } of this.#byId.values()) if (forgotten === true) return true;
    return false;
  }

  /** Those that went with a forgotten person. They are never due. */
  get forgotten(): readonly ScheduledCommand[] {
    return this.all.filter((command) => command.forgotten === true);
  }

  #dueTime({ due, envelope: { aggregate }, forgotten }: ScheduledCommand): number {
    if (forgotten === true) return Infinity;
    if (this.#isSendable(aggregate)) return due;
    this.#leftOut.add(aggregate);
    return Infinity;
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
    return this.all.filter((command) => this.#dueTime(command) <= now).sort((a, b) => a.due - b.due);
  }

  /** The commands with one of these keys that events before a position have scheduled, or a program. */
  withKeys(keys: Iterable<string>, before: number = Infinity): ScheduledCommand[] {
    const found: ScheduledCommand[] = [];
    for (const key of keys)
      for (const command of this.#byKey.get(key) ?? [])
        if ((command.cause?.position ?? 0) < before) found.push(command);
    return found;
  }
}

/** Applies what a note in the log says of scheduled commands. */
export function applySchedule(commands: ScheduledCommands, { scheduled = [], cancelled = [], fired }: Note): void {
  for (const id of cancelled) commands.remove(id);
  for (const command of scheduled) commands.schedule(command);
  if (fired !== undefined) commands.remove(fired);
}
