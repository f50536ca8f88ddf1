import type { TrackedCommit } from "./crash-scenario.ts";

/** The fields of an event that a check uses. */
export interface SeenEvent {
  /** The aggregate's type; `id` is that of the instance. */
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
  readonly position: number;
  readonly type: string;
  readonly data?: unknown;
  readonly correlationId?: string | undefined;
}

/** Checks a store's events, in global order, against the commits of a scenario. */
export function checkEvents(events: readonly SeenEvent[], commits: readonly TrackedCommit[]): void {
  const versions = new Map<string, number>();
  const found = new Map<string, SeenEvent[]>();
  for (const [i, event] of events.entries()) {
    const stream = `${event.aggregate}/${event.id}`;
    const version = (versions.get(stream) ?? 0) + 1;
    if (event.position !== i + 1) throw new Error(`expected position ${i + 1}, found ${nameOf(event)}`);
    if (event.version !== version) throw new Error(`expected version ${version} of ${stream}, found ${nameOf(event)}`);
    versions.set(stream, version);
    if (event.correlationId === undefined) continue;
    const same = found.get(event.correlationId);
    if (same === undefined) found.set(event.correlationId, [event]);
    else same.push(event);
  }
  for (const { id, events: expected, outcome, result } of commits) {
    const there = found.get(id) ?? [];
    found.delete(id);
    if (outcome === "acknowledged" && there.length < expected)
      throw new Error(`commit ${id} was acknowledged: expected its ${expected} events, found ${there.length}`);
    if (there.length > 0 && there.length !== expected)
      throw new Error(
        `commit ${id} is neither whole nor absent: expected ${expected} events or none, found ${there.length}`,
      );
    const last = there.at(-1)?.position ?? 0;
    if (last - (there[0]?.position ?? 1) + 1 !== there.length)
      throw new Error(`expected adjacent positions for commit ${id}, found ${there.map(nameOf).join(", ")}`);
    const position =
      typeof result === "object" && result !== null && "position" in result ? result.position : undefined;
    if (typeof position === "number" && there.length > 0 && position !== last)
      throw new Error(`commit ${id} was acknowledged at position ${position}, found at ${last}`);
  }
  for (const [id, extra] of found)
    throw new Error(`expected no events of ${id}, which no commit has; found ${extra.map(nameOf).join(", ")}`);
}

/** An event as one line: position, stream, version, type and correlation id. */
export function nameOf({ aggregate, id, version, position, type, correlationId }: SeenEvent): string {
  return `${position} ${aggregate}/${id} ${version} ${type} ${correlationId ?? ""}`;
}
