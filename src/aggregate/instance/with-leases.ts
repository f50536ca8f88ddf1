import { ConflictError } from "../../errors.ts";
import type { Commit, CommitResult, EventStore, StreamName } from "../../event-store/event-store.ts";
import { type FullName, fullNameOf, instanceOf, isOutcomesType } from "../../stream-names.ts";
import { tracedCommit } from "../../event-store/traced-commit.ts";
import type { Lease } from "./lease.ts";

/** How often a proposal is made again because another process has committed to one of its streams. */
const MAX_ATTEMPTS = 100;

/** A proposal to end the work under leases. */
export type Proposal<T> =
  /** To write. `superseded` is required for a commit with progress, and called when another process has made that progress. */
  | {
      readonly kind: "commit";
      readonly commit: Commit;
      readonly written: (position: number) => T;
      readonly superseded?: () => T;
    }
  /** To write nothing, because of the states under lease: they must be the newest. `answer` may throw. */
  | { readonly kind: "verdict"; readonly answer: () => T }
  /** To write nothing, because of something that no later event can change. */
  | { readonly kind: "fact"; readonly answer: () => T };

/** Gives exclusive use of instances. */
export interface Lessor {
  lease(stream: StreamName): Promise<Lease>;
}

/** The leases of one piece of work. */
export class Leases {
  readonly #byName: ReadonlyMap<FullName, Lease>;

  constructor(byName: ReadonlyMap<FullName, Lease>) {
    this.#byName = byName;
  }

  get all(): Iterable<Lease> {
    return this.#byName.values();
  }

  of(stream: StreamName): Lease {
    const lease = this.#byName.get(fullNameOf(stream));
    if (lease === undefined) throw new Error(`expected a lease of ${fullNameOf(stream)}, found none`);
    return lease;
  }
}

/**
 * Holds instances while `propose` decides on their states, and carries the proposal out. While other processes come first,
 * the instances catch up and `propose` is called again. If a commit fails, the instances load again before their next use. What
 * `propose` throws passes through; it must not have changed anything then.
 */
export async function withLeases<T>(
  lessor: Lessor,
  store: EventStore,
  streams: readonly StreamName[],
  propose: (leases: Leases) => Promise<Proposal<T>>,
): Promise<T> {
  const held = new Map<FullName, Lease>();
  try {
    const names = new Map(streams.map((stream) => [fullNameOf(stream), stream]));
    // Always in the same order, so that two callers never wait for each other.
    for (const [name, stream] of [...names].sort(([a], [b]) => (a < b ? -1 : 1)))
      held.set(name, await lessor.lease(stream));
    const leases = new Leases(held);
    for (let attempt = 1; ; attempt++) {
      const outcome = await carryOut(store, leases, await propose(leases));
      if (outcome.kind === "done") return outcome.value;
      if (attempt === MAX_ATTEMPTS) throw outcome.conflict();
      for (const lease of leases.all) await lease.catchUp();
    }
  } finally {
    for (const lease of held.values()) lease.giveBack();
  }
}

type Attempt<T> =
  | { readonly kind: "done"; readonly value: T }
  | { readonly kind: "conflict"; readonly conflict: () => ConflictError };

async function carryOut<T>(store: EventStore, leases: Leases, proposal: Proposal<T>): Promise<Attempt<T>> {
  if (proposal.kind === "fact") return { kind: "done", value: proposal.answer() };
  for (const lease of leases.all)
    if (!lease.isLoaded) return { kind: "conflict", conflict: () => conflictError(lease, lease.version) };
  if (proposal.kind === "verdict") {
    const conflict = await findConflict(store, leases);
    return conflict === undefined ? { kind: "done", value: proposal.answer() } : { kind: "conflict", conflict };
  }
  const { commit, written, superseded } = proposal;
  try {
    const result = await tracedCommit(store, commit);
    if (result.ok) return { kind: "done", value: written(result.position) };
    if ("stream" in result) {
      return { kind: "conflict", conflict: conflictOf(leases, result) };
    }
    if (superseded === undefined) throw new Error("expected `superseded` beside progress, found none");
    return { kind: "done", value: superseded() };
  } catch (error) {
    for (const lease of leases.all) lease.unload();
    throw error;
  }
}

/** Asks the store whether the states under lease are the newest ones. */
async function findConflict(store: EventStore, leases: Leases): Promise<(() => ConflictError) | undefined> {
  if (store.refreshNow !== undefined) {
    store.refreshNow();
    for (const lease of leases.all) if (!lease.isCurrent) return () => conflictError(lease, lease.version);
    return undefined;
  }
  const appends = [...leases.all].map(({ stream, version }) => ({ stream, expectedVersion: version, events: [] }));
  const result = await store.commit({ appends });
  if (result.ok || !("stream" in result)) return undefined;
  return conflictOf(leases, result);
}

function conflictOf(
  leases: Leases,
  { stream, actualVersion }: Extract<CommitResult, { readonly stream: StreamName }>,
): () => ConflictError {
  const lease = leases.of(instanceOf(stream));
  if (!isOutcomesType(stream.type)) return () => conflictError(lease, actualVersion);
  lease.markOutcomesOutdated();
  return () => conflictError(lease, lease.version);
}

function conflictError({ stream, version }: Lease, actualVersion: number): ConflictError {
  return new ConflictError(stream.type, stream.id, version, actualVersion);
}
