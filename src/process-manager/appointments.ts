import type { Appointment } from "./reaction.ts";

/** Commands that wait for their time, by identity. */
export class Appointments {
  readonly #byId = new Map<string, Appointment>();
  /** Unknown after a deletion, until somebody asks. */
  #nextDue: number | undefined = Infinity;

  constructor(appointments: Iterable<Appointment> = []) {
    for (const appointment of appointments) this.add(appointment);
  }

  /** Time of the next one; `Infinity` if there is none. */
  get nextDue(): number {
    if (this.#nextDue === undefined) {
      let next = Infinity;
      for (const { due } of this.#byId.values()) next = Math.min(next, due);
      this.#nextDue = next;
    }
    return this.#nextDue;
  }

  get all(): readonly Appointment[] {
    return [...this.#byId.values()];
  }

  add(appointment: Appointment): void {
    this.#byId.set(appointment.id, appointment);
    if (this.#nextDue !== undefined) this.#nextDue = Math.min(this.#nextDue, appointment.due);
  }

  delete(id: string): void {
    if (this.#byId.delete(id)) this.#nextDue = undefined;
  }

  /** Those whose time has come, the earliest first. */
  due(now: number): readonly Appointment[] {
    if (this.nextDue > now) return [];
    return this.all.filter(({ due }) => due <= now).sort((a, b) => a.due - b.due);
  }

  /** Identities of those that have one of the keys. */
  withKeys(keys: ReadonlySet<string>): string[] {
    if (keys.size === 0) return [];
    return this.all.filter(({ key }) => key !== undefined && keys.has(key)).map(({ id }) => id);
  }
}
