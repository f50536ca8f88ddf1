import { tracedCommit } from "../event-store/traced-commit.ts";
import type { AppliedEvent } from "../aggregate/aggregate.ts";
import { atPositions, type CommandOutcome, type Lease } from "../aggregate/instance.ts";
import type { Command } from "../aggregate/model.ts";
import { CommandRejectedError, ConflictError, isCommandRejected } from "../errors.ts";
import type { EventDraft, EventStore, StreamName } from "../event-store/event-store.ts";
import type { Instances } from "./instances.ts";

const MAX_ATTEMPTS = 100;

interface Work {
  readonly lease: Lease;
  readonly from: number;
  state: unknown;
  version: number;
  readonly drafts: EventDraft[];
  readonly keys: Map<string, { from: number; to: number }>;
}

/** One command of the lot and where its events are. */
interface Part {
  readonly work: Work;
  readonly events: readonly AppliedEvent<string, unknown>[];
  readonly state: unknown;
  readonly version: number;
  readonly key?: string | undefined;
  /** It was executed before, by its idempotency key. */
  readonly before?: CommandOutcome;
}

/**
 * Decides commands of several instances on their states and writes all their events in one commit, or
 * nothing. Commands of the same instance see each other's events, in the given order.
 */
export async function dispatchAll(
  instances: Instances,
  eventStore: EventStore,
  commands: readonly { readonly stream: StreamName; readonly command: Command }[],
): Promise<readonly CommandOutcome[]> {
  const streams = new Map(commands.map(({ stream }) => [`${stream.type}/${stream.id}`, stream]));
  const leases = new Map<string, Lease>();
  let next: "keep" | "reload" = "reload";
  try {
    // Always in the same order, so that two of these never wait for each other.
    for (const key of [...streams.keys()].sort()) {
      const stream = streams.get(key);
      if (stream !== undefined) leases.set(key, await instances.lease(stream));
    }
    for (let attempt = 1; ; attempt++) {
      const parts = await decideAll(leases, commands);
      const works = [...new Set(parts.map(({ work }) => work))].filter(({ drafts }) => drafts.length > 0);
      if (works.length === 0) {
        next = "keep";
        return parts.map(({ work, before }) => before ?? work.lease.outcome());
      }
      const appends = works.map(({ lease, from, drafts }) => ({
        stream: lease.stream,
        expectedVersion: from,
        events: drafts,
      }));
      const result = await tracedCommit(eventStore, { appends });
      if (result.ok) {
        const outcomes = place(parts, works, result.position);
        next = "keep";
        return outcomes;
      }
      if (attempt === MAX_ATTEMPTS && "stream" in result) {
        const expected = works.find(({ lease }) => lease.stream.id === result.stream.id)?.from ?? 0;
        throw new ConflictError(result.stream.type, result.stream.id, expected, result.actualVersion);
      }
      for (const lease of leases.values()) await lease.catchUp();
    }
  } catch (error) {
    if (isCommandRejected(error)) next = "keep";
    throw error;
  } finally {
    for (const lease of leases.values()) lease.release(next);
  }
}

async function decideAll(
  leases: ReadonlyMap<string, Lease>,
  commands: readonly { readonly stream: StreamName; readonly command: Command }[],
): Promise<Part[]> {
  const works = new Map<string, Work>();
  const parts: Part[] = [];
  for (const { stream, command } of commands) {
    const name = `${stream.type}/${stream.id}`;
    const lease = leases.get(name);
    if (lease === undefined) continue;
    let work = works.get(name);
    if (work === undefined) {
      const { state, version } = lease.situation();
      works.set(name, (work = { lease, from: version, state, version, drafts: [], keys: new Map() }));
    }
    const key = command.context.idempotencyKey;
    const before = key === undefined ? undefined : await lease.first(key);
    const twin = key === undefined ? undefined : parts.find((part) => part.work === work && part.key === key);
    if (twin !== undefined) {
      parts.push(twin);
      continue;
    }
    if (before !== undefined) {
      parts.push({
        work,
        events: [],
        state: work.state,
        version: work.version,
        before,
      });
      continue;
    }
    const decision = lease.decide({ id: stream.id, state: work.state, version: work.version }, command);
    if (decision.kind === "rejection")
      throw new CommandRejectedError(stream.type, stream.id, command.type, decision.rejection);
    work.drafts.push(...decision.drafts);
    if (key !== undefined && decision.drafts.length > 0)
      work.keys.set(key, { from: work.version + 1, to: work.version + decision.drafts.length });
    work.state = decision.state;
    work.version += decision.drafts.length;
    parts.push({ work, events: decision.events, state: work.state, version: work.version, key });
  }
  return parts;
}

/** The outcomes of a commit whose last event has the given position; moves the instances on. */
function place(parts: readonly Part[], works: readonly Work[], last: number): CommandOutcome[] {
  const total = works.reduce((sum, { drafts }) => sum + drafts.length, 0);
  const firstPositions = new Map<Work, number>();
  const before = new Map(works.map((work) => [work, work.lease.outcome().position]));
  let position = last - total + 1;
  for (const work of works) {
    firstPositions.set(work, position);
    position += work.drafts.length;
    work.lease.committed(work.state, work.version, position - 1, work.keys);
  }
  return parts.map(({ work, events, state, version, before: earlier }) => {
    const first = firstPositions.get(work);
    if (earlier !== undefined) return earlier;
    if (first === undefined) return work.lease.outcome();
    // Without an event of its own so far, the instance is where it was.
    const end = version === work.from ? (before.get(work) ?? 0) : first + version - work.from - 1;
    return { events: atPositions(events, end), state, version, position: end };
  });
}
