import { appendAll } from "../arrays.ts";
import type { AppliedEvent } from "../aggregate/aggregate.ts";
import { atPositions, type CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import type { VersionRange } from "../aggregate/instance/idempotency-keys.ts";
import { type DecidedOutcome, decidedOutcome, keyToRemember } from "../aggregate/instance/remembered-outcomes.ts";
import type { Lease } from "../aggregate/instance/lease.ts";
import { type Leases, type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { Command } from "../aggregate/model.ts";
import { CommandRejectedError } from "../errors.ts";
import type { EventDraft, EventStore, StreamAppend, StreamName } from "../event-store/event-store.ts";

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
  /** Whether some of the commands have idempotency keys. */
  hasKeys: boolean;
  /** Those that lead to no event and are remembered. */
  readonly outcomes: DecidedOutcome[];
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

/** The commands of a list, all decided; or the rejection of one, which is the answer to all. */
type DecidedList =
  | { readonly kind: "decided"; readonly list: readonly Decided[] }
  | {
      readonly kind: "rejected";
      readonly changes: InstanceChanges;
      readonly outcome: DecidedOutcome;
      readonly error: CommandRejectedError;
    };

type Answer = () => readonly CommandOutcome[];

/**
 * Decides commands of several instances on their states and writes all their events in one commit, or
 * nothing. Commands of the same instance see each other's events, in the given order. With `remembersAll`, a rejection is remembered
 * by the instance that it comes from, and answers the same list of commands from then on.
 */
export async function dispatchAll(
  lessor: Lessor,
  store: EventStore,
  commands: readonly AddressedCommand[],
  remembersAll: boolean,
): Promise<readonly CommandOutcome[]> {
  if (remembersAll) for (const { command } of commands) keyToRemember(command);
  const streams = commands.map(({ stream }) => stream);
  // A rejection is thrown when the leases are given back: it is no failure of the commit.
  const answer = await withLeases(lessor, store, streams, (leases) => propose(leases, commands, remembersAll));
  return answer();
}

async function propose(
  leases: Leases,
  commands: readonly AddressedCommand[],
  remembersAll: boolean,
): Promise<Proposal<Answer>> {
  const all = new Map<Lease, InstanceChanges>();
  let decided: DecidedList;
  try {
    if (remembersAll) await throwEarlierRejection(leases, commands);
    decided = await decideAll(leases, all, commands, remembersAll);
  } catch (error) {
    return { kind: "verdict", answer: () => throwError(error) };
  }
  const changes = [...all.values()];
  if (decided.kind === "rejected") {
    const { error } = decided;
    const answer: Answer = () => throwError(error);
    if (!remembersAll) return { kind: "verdict", answer: () => answer };
    return commitOutcomes(changes, decided.changes, decided.outcome, answer);
  }
  const { list } = decided;
  const written = changes.filter(({ drafts }) => drafts.length > 0);
  const remembered = changes.filter(({ outcomes }) => outcomes.length > 0);
  if (written.length === 0 && remembered.length === 0) {
    const answer = (): Answer => {
      const results = list.map(unchanged);
      return () => results;
    };
    return { kind: "verdict", answer };
  }
  const beside = await Promise.all(changes.map((each) => outcomesAppend(each, remembersAll)));
  // The events come last, so that the position of the commit is theirs.
  const outcomes = beside.flatMap((append) => append ?? []);
  const appends = [
    ...outcomes,
    ...changes.map(({ drafts, ...each }) => ({ ...unchangedAppend(each), events: drafts })),
  ];
  return {
    kind: "commit",
    commit: { appends },
    written: (position) => {
      const first = position - written.reduce((sum, { drafts }) => sum + drafts.length, 0);
      advanceOutcomes(remembered, first);
      const lastPositions = advance(written, first);
      const results = list.map((each) => outcomeOf(each, lastPositions));
      return () => results;
    },
  };
}

/** Writes nothing but the rejection, which rests on the states of all instances. */
async function commitOutcomes(
  all: readonly InstanceChanges[],
  rejecting: InstanceChanges,
  outcome: DecidedOutcome,
  answer: Answer,
): Promise<Proposal<Answer>> {
  const append = await rejecting.lease.outcomesAppend([outcome]);
  return {
    kind: "commit",
    commit: { appends: [append, ...all.map(unchangedAppend)] },
    written: (position) => {
      rejecting.lease.advanceOutcomes([outcome], position);
      return answer;
    },
  };
}

function unchangedAppend({ lease, versionBefore }: Pick<InstanceChanges, "lease" | "versionBefore">): StreamAppend {
  return { stream: lease.stream, expectedVersion: versionBefore, events: [] };
}

/** What an instance remembers of its commands without events, compared at least if there may be something to compare. */
async function outcomesAppend(
  { lease, hasKeys, outcomes }: InstanceChanges,
  remembersAll: boolean,
): Promise<StreamAppend | undefined> {
  if (!hasKeys) return undefined;
  const append = await lease.outcomesAppend(outcomes);
  return remembersAll || append.expectedVersion > 0 ? append : undefined;
}

function advanceOutcomes(remembered: readonly InstanceChanges[], last: number): void {
  let position = last - remembered.reduce((sum, { outcomes }) => sum + outcomes.length, 0);
  for (const { lease, outcomes } of remembered) {
    position += outcomes.length;
    lease.advanceOutcomes(outcomes, position);
  }
}

/** Throws a rejection that one of the instances remembers: whatever the others would say now, it was the answer to all. */
async function throwEarlierRejection(leases: Leases, commands: readonly AddressedCommand[]): Promise<void> {
  for (const { stream, command } of commands) await leases.of(stream).throwEarlierRejection(keyToRemember(command));
}

async function decideAll(
  leases: Leases,
  all: Map<Lease, InstanceChanges>,
  commands: readonly AddressedCommand[],
  remembersAll: boolean,
): Promise<DecidedList> {
  const list: Decided[] = [];
  for (const { stream, command } of commands) {
    const changes = changesOf(all, leases.of(stream));
    const key = command.context.idempotencyKey;
    if (key !== undefined) changes.hasKeys = true;
    const known = key === undefined ? undefined : (changes.byKey.get(key) ?? (await earlier(changes.lease, key)));
    const one = known ?? decideOne(changes, stream, command, remembersAll);
    if (one.kind === "rejected") return one;
    if (key !== undefined) changes.byKey.set(key, one);
    list.push(one);
  }
  return { kind: "decided", list };
}

function changesOf(all: Map<Lease, InstanceChanges>, lease: Lease): InstanceChanges {
  const known = all.get(lease);
  if (known !== undefined) return known;
  const { state, version, position } = lease.outcome;
  const keys = new Map<string, VersionRange>();
  const byKey = new Map<string, Decided>();
  const before = { lease, versionBefore: version, positionBefore: position, state, version };
  const changes: InstanceChanges = { ...before, drafts: [], keys, hasKeys: false, outcomes: [], byKey };
  all.set(lease, changes);
  return changes;
}

async function earlier(lease: Lease, key: string): Promise<Decided | undefined> {
  const outcome = await lease.earlierOutcome(key);
  return outcome === undefined ? undefined : { kind: "earlier", outcome };
}

function decideOne(
  changes: InstanceChanges,
  stream: StreamName,
  command: Command,
  remembersAll: boolean,
): Decided | Extract<DecidedList, { readonly kind: "rejected" }> {
  const { lease, drafts, keys, versionBefore, version: before } = changes;
  const decision = lease.decide({ id: stream.id, state: changes.state, version: before }, command);
  if (decision.kind === "rejection") {
    const { rejection } = decision;
    const error = new CommandRejectedError(stream.type, stream.id, command.type, rejection);
    // Nothing of the list is written, so it is remembered at the version from before it.
    return { kind: "rejected", changes, outcome: decidedOutcome(command, versionBefore, rejection), error };
  }
  const { events, state } = decision;
  appendAll(drafts, decision.drafts);
  const version = before + decision.drafts.length;
  const key = command.context.idempotencyKey;
  if (key !== undefined && version > before) keys.set(key, { from: before + 1, to: version });
  if (remembersAll && version === before) changes.outcomes.push(decidedOutcome(command, version));
  changes.state = state;
  changes.version = version;
  return { kind: "new", changes, events, state, version };
}

/** Moves the instances on after the commit whose events come after a position. Gives each instance's last position. */
function advance(written: readonly InstanceChanges[], before: number): ReadonlyMap<InstanceChanges, number> {
  const lastPositions = new Map<InstanceChanges, number>();
  let position = before;
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
