import type { EventLock, LockedAggregate, LockedPast, LockedShape } from "./event-lock.ts";
import { shapeDifference } from "./shape-difference.ts";

export type LockDifferenceKind =
  | "aggregate-vanished"
  | "event-vanished"
  | "history-vanished"
  | "name-reused"
  | "shape-changed"
  | "step-removed"
  | "shape-unknown";

/** A change of the model with which events that are stored already are lost or misread. */
export interface LockDifference {
  readonly kind: LockDifferenceKind;
  readonly aggregate: string;
  /** `undefined` for an aggregate that vanished. */
  readonly event: string | undefined;
  /** Says what was expected and found, and what to do. */
  readonly message: string;
}

/** Compares the events of a model with those that were locked. New aggregates, events, steps and history entries are no differences. */
export function compareLocks(locked: EventLock, present: EventLock): LockDifference[] {
  return Object.entries(locked.aggregates).flatMap(([type, before]) => {
    const after = present.aggregates[type];
    if (after !== undefined) return compareAggregates(type, before, after);
    const message = `expected the aggregate ${type}, found none. Its events stay in the stores; name all aggregates that the lock file has`;
    return [{ kind: "aggregate-vanished" as const, aggregate: type, event: undefined, message }];
  });
}

function compareAggregates(aggregate: string, before: LockedAggregate, after: LockedAggregate): LockDifference[] {
  const differences: LockDifference[] = [];
  const add = (kind: LockDifferenceKind, event: string, message: string): void => {
    differences.push({ kind, aggregate, event, message: `${aggregate}.${event}: ${message}` });
  };
  for (const [event, { shapes }] of Object.entries(before.events)) {
    const past = own(after.history, event);
    if (own(after.events, event) === undefined && past === undefined)
      add(
        "event-vanished",
        event,
        `expected this event, found neither it nor an entry in the history. ${wayOut(event)}`,
      );
    else compareShapes(event, shapes, shapesNow(after, event), add);
  }
  for (const [event, past] of Object.entries(before.history)) {
    if (own(after.events, event) !== undefined)
      add(
        "name-reused",
        event,
        `the history had given up this name (${shownPast(past)}), and an event has it again. Stored events would be read as the new event; choose another name`,
      );
    else if (own(after.history, event) === undefined)
      add(
        "history-vanished",
        event,
        `expected the history to say what became of it (${shownPast(past)}), found nothing. Stored events would be unknown; put the entry back`,
      );
    else compareShapes(event, shapesNow(before, event), shapesNow(after, event), add);
  }
  return differences;
}

function compareShapes(
  event: string,
  before: readonly LockedShape[] | undefined,
  after: readonly LockedShape[] | undefined,
  add: (kind: LockDifferenceKind, event: string, message: string) => void,
): void {
  // A dropped event is not read, whatever its shape.
  if (before === undefined || after === undefined) return;
  if (after.length < before.length) {
    add(
      "step-removed",
      event,
      `expected at least ${before.length - 1} steps, found ${after.length - 1}. Stored events remember how many steps they have been through; put the steps back`,
    );
    return;
  }
  for (const [step, shape] of before.entries()) {
    const present = after[step] ?? null;
    if (shape !== null && present === null)
      add(
        "shape-unknown",
        event,
        `the lock file has shape ${step + 1}, and the present one cannot be told; give the sources of the contracts, and install typescript`,
      );
    const lines = shapeDifference(shape, present);
    if (lines.length > 0)
      add(
        "shape-changed",
        event,
        `shape ${step + 1} has changed without a step: ${lines.join("; ")}. Declare the old shape, and add the new one with .to(…)`,
      );
  }
}

/** The shapes with which the stored events of a name are read; `undefined` if they are not read. */
function shapesNow({ events, history }: LockedAggregate, event: string): readonly LockedShape[] | undefined {
  let name = event;
  for (let count = 0; count <= Object.keys(history).length; count++) {
    const declared = own(events, name);
    if (declared !== undefined) return declared.shapes;
    const past = own(history, name);
    if (past === undefined || "dropped" in past) return undefined;
    if ("replaced" in past) return past.shapes;
    name = past.renamed;
  }
  return undefined;
}

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function shownPast(past: LockedPast): string {
  if ("renamed" in past) return `renamed to ${past.renamed}`;
  return "dropped" in past ? "dropped" : "replaced";
}

function wayOut(event: string): string {
  const name = JSON.stringify(event);
  return `Stored events would be unknown; add renamed(${name}, "<new name>"), dropped(${name}) or replaced(${name}, …)`;
}
