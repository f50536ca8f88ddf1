import type { StoredEvent } from "../event-store/event-store.ts";
import type { HandlerName, NamedHandler, Note } from "./note.ts";

/** How far one handler has come, according to the log. */
interface Reached {
  /** Events up to this position are not the handler's: it began to count after them. */
  readonly from: number;
  position: number;
  /** How many outputs of the event at `position` are carried out; `Infinity` for all of them. Those of the events before it all are. */
  outputsDone: number;
}

/** A handler in a checkpoint. */
export interface SavedHandler extends HandlerName {
  readonly from: number;
  readonly position: number;
  /** `null` if the event at `position` is handled completely. */
  readonly outputsDone: number | null;
}

/** What a checkpoint keeps of the handlers. */
export interface SavedHandlers {
  readonly handlers: readonly SavedHandler[];
  /** For each note with `handlers`: its sequence, and the places of its handlers in `handlers`. */
  readonly handlersNotes: readonly (readonly [sequence: number, places: readonly number[]])[];
  /** That of the newest note with `handlers`. */
  readonly horizon?: number;
}

/**
 * How far each handler of a process manager has come. It follows from the manager's notes alone, in their order, so every
 * process sees the same. A handler that the present code lacks is kept: if it is added again, it continues where it was.
 */
export class HandlerProgress {
  readonly #reached = new Map<string, Reached & HandlerName>();
  /** By the sequence of the note that has them: the handlers of one version of the manager. */
  readonly #lists = new Map<number, readonly Reached[]>();
  /** The furthest place in notes whose handlers are unknown, because a repair has replaced the note that had them. */
  #unattributed = 0;
  /** Of the newest note with handlers. */
  #horizon = 0;

  constructor(saved: SavedHandlers = { handlers: [], handlersNotes: [] }) {
    const reached = saved.handlers.map((handler) => ({ ...handler, outputsDone: handler.outputsDone ?? Infinity }));
    this.#horizon = saved.horizon ?? 0;
    for (const handler of reached) this.#reached.set(keyOf(handler.aggregate, handler.event), handler);
    for (const [sequence, places] of saved.handlersNotes) {
      const list = places.flatMap((place) => reached[place] ?? []);
      this.#lists.set(sequence, list);
    }
  }

  /** Whether no handler was ever noted. */
  get isEmpty(): boolean {
    return this.#reached.size === 0;
  }

  has({ aggregate, event }: HandlerName): boolean {
    return this.#reached.has(keyOf(aggregate, event));
  }

  /** Sequence of the note that has exactly these handlers; `undefined` if there is none. */
  noteWith(names: readonly HandlerName[]): number | undefined {
    const wanted = new Set(names.map(({ aggregate, event }) => this.#reached.get(keyOf(aggregate, event))));
    for (const [sequence, list] of this.#lists)
      if (list.length === names.length && list.every((handler) => wanted.has(handler as Reached & HandlerName)))
        return sequence;
    return undefined;
  }

  /**
   * Compactions up to this position count for the handlers of a note: those that counted when the note was written, and those that all
   * handlers are past. A handler at an old event must not get what replaced that event, which stands for earlier ones, too. A handler
   * that has not begun may get either.
   */
  horizonOf(handlersNote: number): number {
    return this.#horizonFor(this.#lists.get(handlersNote) ?? []);
  }

  /** The same for handlers of which some may be new; nothing if none of them has begun. */
  horizonFor(names: readonly HandlerName[]): number | undefined {
    const known = names.flatMap(({ aggregate, event }) => this.#reached.get(keyOf(aggregate, event)) ?? []);
    return known.every(({ position }) => position === 0) ? undefined : this.#horizonFor(known);
  }

  #horizonFor(handlers: readonly Reached[]): number {
    const begun = handlers.map(({ position }) => position).filter((position) => position > 0);
    const least = begun.reduce((smallest, position) => Math.min(smallest, position), begun[0] ?? 0);
    return Math.max(this.#horizon, least);
  }

  /** The same for the handlers of the newest version. */
  get horizon(): number {
    return this.#horizonFor([...this.#lists.values()].at(-1) ?? []);
  }

  /** Whether an event is one that its handler counts. */
  counts({ stream, type, position }: StoredEvent): boolean {
    return position > (this.#reached.get(keyOf(stream.type, type))?.from ?? 0);
  }

  /** How many outputs of an event are carried out; `Infinity` if the event is handled completely. */
  outputsDone({ stream, type, position }: StoredEvent): number {
    const reached = this.#reached.get(keyOf(stream.type, type));
    if (reached === undefined || reached.position < position) return 0;
    return reached.position > position ? Infinity : reached.outputsDone;
  }

  /** Up to this position, all handlers of the newest version are done with every event. */
  get handled(): number {
    const newest = [...this.#lists].at(-1);
    const places = newest?.[1].map(({ position, outputsDone }) => (outputsDone === Infinity ? position : position - 1));
    return places?.reduce((least, place) => Math.min(least, place), places[0] ?? 0) ?? 0;
  }

  /** Whether a handler has come further than a position: handling an event there is catching up. */
  isPast(position: number): boolean {
    for (const reached of this.#reached.values()) if (reached.position > position) return true;
    return false;
  }

  apply(sequence: number, note: Note): void {
    if (note.handlers !== undefined) {
      this.#addList(sequence, note.handlers);
      this.#horizon = Math.max(this.#horizon, note.horizon ?? 0);
    }
    const { handled, position = handled, outputsDone = Infinity, handlersNote } = note;
    if (position === undefined) return;
    const list = handlersNote === undefined ? undefined : this.#lists.get(handlersNote);
    if (list === undefined) this.#unattributed = Math.max(this.#unattributed, position);
    for (const reached of list ?? this.#reached.values())
      raise(reached, position, handled === undefined ? outputsDone : Infinity);
  }

  save(): SavedHandlers {
    const all: readonly Reached[] = [...this.#reached.values()];
    return {
      handlers: [...this.#reached.values()].map(({ aggregate, event, from, position, outputsDone }) => ({
        aggregate,
        event,
        from,
        position,
        outputsDone: outputsDone === Infinity ? null : outputsDone,
      })),
      handlersNotes: [...this.#lists].map(([sequence, list]) => [
        sequence,
        list.map((handler) => all.indexOf(handler)),
      ]),
      horizon: this.#horizon,
    };
  }

  #addList(sequence: number, handlers: readonly NamedHandler[]): void {
    const list = handlers.map(({ aggregate, event, from = 0 }) => {
      const key = keyOf(aggregate, event);
      let reached = this.#reached.get(key);
      if (reached === undefined) {
        // A repair may have lost the note that named this handler first. Then it is taken to be as far as the notes that remain.
        const position = Math.max(from, this.#unattributed);
        this.#reached.set(key, (reached = { aggregate, event, from, position, outputsDone: Infinity }));
      }
      return reached;
    });
    this.#unattributed = 0;
    this.#lists.set(sequence, list);
  }
}

function raise(reached: Reached, position: number, outputsDone: number): void {
  if (position < reached.position) return;
  reached.outputsDone = position > reached.position ? outputsDone : Math.max(reached.outputsDone, outputsDone);
  reached.position = position;
}

function keyOf(aggregate: string, event: string): string {
  return `${aggregate}/${event}`;
}
