import { EventfoldError } from "../errors.ts";
import type { Message } from "./messages.ts";
import type { DataOf, InputOf, Payload, Payloads } from "./payload.ts";

/** An event type that has another name now. */
export interface Renamed<Old extends string = string, New extends string = string> {
  readonly kind: "renamed";
  readonly from: Old;
  readonly to: New;
}

/** An event type that readers do not see any more. */
export interface Dropped<Old extends string = string> {
  readonly kind: "dropped";
  readonly from: Old;
}

/** An event type whose events are read as other events. */
export interface Replaced<Old extends string = string, P extends Payload = Payload, Event = unknown> {
  readonly kind: "replaced";
  readonly from: Old;
  readonly payload: P;
  readonly convert: (data: never) => Event;
}

// oxlint-disable-next-line no-explicit-any -- stands for an entry of any names and payloads
export type PastEvent = Renamed | Dropped | Replaced<string, any, any>;

/** Declares that events stored as `from` are called `to` now. They keep their payload, and the steps of `to` apply to it. */
export function renamed<const Old extends string, const New extends string>(from: Old, to: New): Renamed<Old, New> {
  return { kind: "renamed", from, to };
}

/** Declares that events stored as `from` mean nothing any more: readers pass over them. The files keep them. */
export function dropped<const Old extends string>(from: Old): Dropped<Old> {
  return { kind: "dropped", from };
}

type AnyMessage = { readonly type: string; readonly data?: unknown };

/**
 * Declares that events stored as `from` are read as other events. `convert` gets the payload in its newest shape and returns an event
 * `{ type, data? }`, an array of them, or nothing. It splits an event (returns several), merges types (several `replaced` return the
 * same type), or drops some events. It must be pure.
 */
export function replaced<
  const Old extends string,
  P extends Payload,
  const Event extends AnyMessage | readonly AnyMessage[] | undefined,
>(from: Old, payload: P, convert: (data: DataOf<P>) => Event): Replaced<Old, P, Event> {
  return { kind: "replaced", from, payload, convert };
}

/** The names that a history gives up. */
export type PastName<H extends readonly PastEvent[]> = H[number]["from"];

/** What the entries of a history may return: events of the contract, or older ones that other entries convert. */
type Target<E, Events extends Payloads> =
  | { [K in keyof Events & string]: Message<K, InputOf<Events[K]>> }[keyof Events & string]
  | (E extends Replaced<infer Old, infer P> ? Message<Old, DataOf<P>> : never)
  | (E extends Renamed<infer Old, infer New>
      ? Message<Old, New extends keyof Events ? InputOf<Events[New]> : unknown>
      : never)
  | (E extends Dropped<infer Old> ? { readonly type: Old; readonly data?: unknown } : never);

type Results<Event> = Event extends readonly (infer Item)[] ? Item : Exclude<Event, undefined>;

/** Makes the compiler refuse names that do not fit the events of the contract. */
export type CheckedHistory<H extends readonly PastEvent[], Events extends Payloads> = {
  readonly [I in keyof H]: H[I] extends { readonly from: keyof Events & string }
    ? `${H[I]["from"]} is an event of the contract; its history needs another name`
    : H[I] extends Renamed<string, infer New>
      ? New extends (keyof Events & string) | PastName<H>
        ? unknown
        : `${New} is neither an event of the contract nor in its history`
      : H[I] extends Replaced<infer Old, Payload, infer Event>
        ? Results<Event> extends Target<H[number], Events>
          ? unknown
          : `${Old} is replaced by something that is not an event of the contract`
        : unknown;
};

/** Throws `INVALID_DEFINITION` for a history that does not fit the events of the contract. */
export function checkHistory(
  aggregate: string,
  events: Payloads,
  history: unknown,
  checkName: (name: string) => void,
): void {
  if (history === undefined) return;
  const bad = (why: string): EventfoldError =>
    new EventfoldError("INVALID_DEFINITION", `aggregate ${aggregate}: history ${why}`);
  if (!Array.isArray(history))
    throw bad(`expected an array of renamed(…), dropped(…) and replaced(…), found ${typeof history}`);
  const entries = new Map<string, PastEvent>();
  for (const entry of history as readonly unknown[]) {
    if (!isEntry(entry)) throw bad("expected entries made by renamed(…), dropped(…) or replaced(…)");
    checkName(entry.from);
    if (Object.hasOwn(events, entry.from))
      throw bad(
        `has ${entry.from}, which is also an event of the contract; an old name cannot be used for another event`,
      );
    if (entries.has(entry.from)) throw bad(`has ${entry.from} twice; say once what became of it`);
    entries.set(entry.from, entry);
  }
  for (const entry of entries.values()) {
    const passed = new Set<string>();
    let next: PastEvent | undefined = entry;
    while (next?.kind === "renamed" && !passed.has(next.from)) {
      const { from, to } = next as Renamed;
      passed.add(from);
      next = entries.get(to);
      if (next === undefined && !Object.hasOwn(events, to))
        throw bad(`renames ${from} to ${to}, which is neither an event of the contract nor in the history`);
    }
    if (next?.kind === "renamed") throw bad(`renames ${entry.from} in a circle`);
  }
}

function isEntry(entry: unknown): entry is PastEvent {
  if (typeof entry !== "object" || entry === null || !("kind" in entry) || !("from" in entry)) return false;
  const { kind, from } = entry as PastEvent;
  if (typeof from !== "string") return false;
  if (kind === "renamed") return typeof (entry as Renamed).to === "string";
  if (kind === "dropped") return true;
  return typeof (entry as Replaced).convert === "function";
}
