import { appendAll } from "../arrays.ts";
import type { AppliedEvent } from "../aggregate/aggregate.ts";
import { atPositions, type CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import type { VersionRange } from "../aggregate/instance/idempotency-keys.ts";
import type { Lease } from "../aggregate/instance/lease.ts";
import { type Leases, type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { Command } from "../aggregate/model.ts";
import { CommandRejectedError } from "../errors.ts";
import type { EventDraft, EventStore, StreamName } from "../event-store/event-store.ts";

interface AddressedCommand {
  readonly stream: StreamName;
  readonly command: Command;
}

/** What the commands of one instance lead to, so far. */
interface InstanceChanges {
  readonly lease: Lease;
  readonly versionBefore: number;
  readonly positionBefore: number;
  state: unknown;
  version: number;
  readonly drafts: EventDraft[];
  readonly keys: Map<string, VersionRange>;
  /** Outcomes by idempotency key: a key that comes twice is one command. */
  readonly byKey: Map<string, Decided>;
}

/** One command of the list. */
type Decided =
  | { readonly kind: "earlier"; readonly outcome: CommandOutcome }
  | {
      readonly kind: "new";
      readonly changes: InstanceChanges;
      readonly events: readonly AppliedEvent<string, unknown>[];
      readonly state: unknown;
      readonly version: number;
    };

/**
 * Decides commands of several instances on their states and writes all their events in one commit, or
 * nothing. Commands of the same instance see each other's events, in the given order.
 */
export function dispatchAll(
  lessor: Lessor,
  store: EventStore,
  commands: readonly AddressedCommand[],
): Promise<readonly CommandOutcome[]> {
  const streams = commands.map(({ stream }) => stream);
  return withLeases(lessor, store, streams, async (leases): Promise<Proposal<readonly CommandOutcome[]>> => {
    const changes = new Map<Lease, InstanceChanges>();
    let decided: readonly Decided[];
    try {
      decided = await decideAll(leases, changes, commands);
    } catch (error) {
      return { kind: "verdict", answer: () => throwError(error) };
    }
    const written = [...changes.values()].filter(({ drafts }) => drafts.length > 0);
    if (written.length === 0) return { kind: "verdict", answer: () => decided.map(unchanged) };
    const appends = [...changes.values()].map(({ lease, versionBefore, drafts }) => ({
      stream: lease.stream,
      expectedVersion: versionBefore,
      events: drafts,
    }));
    return {
      kind: "commit",
      commit: { appends },
      written: (position) => {
        const lastPositions = advance(written, position);
        return decided.map((each) => outcomeOf(each, lastPositions));
      },
    };
  });
}

async function decideAll(
  leases: Leases,
  all: Map<Lease, InstanceChanges>,
  commands: readonly AddressedCommand[],
): Promise<readonly Decided[]> {
  const decided: Decided[] = [];
  for (const { stream, command } of commands) {
    const changes = changesOf(all, leases.of(stream));
    const key = command.context.idempotencyKey;
    const known = key === undefined ? undefined : (changes.byKey.get(key) ?? (await earlier(changes.lease, key)));
    const one = known ?? decideOne(changes, stream, command);
    if (key !== undefined) changes.byKey.set(key, one);
    decided.push(one);
  }
  return decided;
}

function changesOf(all: Map<Lease, InstanceChanges>, lease: Lease): InstanceChanges {
  const known = all.get(lease);
  if (known !== undefined) return known;
  const { state, version, position } = lease.outcome;
  const keys = new Map<string, VersionRange>();
  const byKey = new Map<string, Decided>();
  const changes = { lease, versionBefore: version, positionBefore: position, state, version, drafts: [], keys, byKey };
  all.set(lease, changes);
  return changes;
}

async function earlier(lease: Lease, key: string): Promise<Decided | undefined> {
  const outcome = await lease.earlierOutcome(key);
  return outcome === undefined ? undefined : { kind: "earlier", outcome };
}

function decideOne(changes: InstanceChanges, stream: StreamName, command: Command): Decided {
  const { lease, drafts, keys, version: before } = changes;
  const decision = lease.decide({ id: stream.id, state: changes.state, version: before }, command);
  if (decision.kind === "rejection")
    throw new CommandRejectedError(stream.type, stream.id, command.type, decision.rejection);
  const { events, state } = decision;
  appendAll(drafts, decision.drafts);
  const version = before + decision.drafts.length;
  const key = command.context.idempotencyKey;
  if (key !== undefined && version > before) keys.set(key, { from: before + 1, to: version });
  changes.state = state;
  changes.version = version;
  return { kind: "new", changes, events, state, version };
}

/** Moves the instances on after the commit whose last event has the given position. Gives each instance's last position. */
function advance(written: readonly InstanceChanges[], last: number): ReadonlyMap<InstanceChanges, number> {
  const lastPositions = new Map<InstanceChanges, number>();
  let position = last - written.reduce((sum, { drafts }) => sum + drafts.length, 0);
  for (const changes of written) {
    position += changes.drafts.length;
    lastPositions.set(changes, position);
    changes.lease.advance(changes.state, changes.version, position, changes.keys);
  }
  return lastPositions;
}

function outcomeOf(decided: Decided, lastPositions: ReadonlyMap<InstanceChanges, number>): CommandOutcome {
  if (decided.kind === "earlier") return decided.outcome;
  const { changes, events, state, version } = decided;
  const last = lastPositions.get(changes);
  // Before its first new event, the instance is where it was.
  const isUnchanged = last === undefined || version === changes.versionBefore;
  const position = isUnchanged ? changes.positionBefore : last - (changes.version - version);
  return { events: atPositions(events, position), state, version, position };
}

function unchanged(decided: Decided): CommandOutcome {
  return decided.kind === "earlier" ? decided.outcome : decided.changes.lease.outcome;
}

function throwError(error: unknown): never {
  throw error;
}
