import type { CommitChain, CommitResult } from "../../event-store/event-store.ts";
import type { FullName } from "../../stream-names.ts";
import type { PreparedCommit } from "../message/prepared-commit.ts";

/** Where streams and consumers are after the last message that the replica has. */
export interface Known {
  readonly versions: ReadonlyMap<FullName, number>;
  readonly sequences: ReadonlyMap<string, number>;
}

/** Which commits of a batch are to be written, and which have to be refused, in the order of the calls. */
export class BatchPlan<C extends PreparedCommit> {
  readonly accepted: C[] = [];
  readonly refused: { readonly commit: C; readonly result: CommitResult }[] = [];
  /** A refused commit knows a newer version than the replica, which may lack messages. */
  isBehind = false;
  readonly #known: Known;
  readonly #versions = new Map<FullName, number>();
  readonly #sequences = new Map<string, number>();
  readonly #broken = new Set<CommitChain>();

  constructor(commits: readonly C[], known: Known) {
    this.#known = known;
    for (const commit of commits) {
      const refusal = this.#refusalOf(commit);
      if (refusal === undefined) this.#accept(commit);
      else {
        if (commit.chain !== undefined) this.#broken.add(commit.chain);
        this.refused.push({ commit, result: refusal });
      }
    }
  }

  /** The commits that the message must have. */
  get written(): readonly C[] {
    return this.accepted.filter(({ writes }) => writes);
  }

  #versionOf(key: FullName): number {
    return this.#versions.get(key) ?? this.#known.versions.get(key) ?? 0;
  }

  #sequenceOf(name: string): number {
    return this.#sequences.get(name) ?? this.#known.sequences.get(name) ?? 0;
  }

  #refusalOf({ appends, consumer, chain }: C): CommitResult | undefined {
    const isBroken = chain !== undefined && (chain.broken || this.#broken.has(chain));
    for (const { stream, key, expectedVersion } of appends) {
      const actualVersion = this.#versionOf(key);
      if (actualVersion === expectedVersion && !isBroken) continue;
      if (actualVersion < expectedVersion && !isBroken) this.isBehind = true;
      return { ok: false, stream, actualVersion };
    }
    if (consumer === undefined) return undefined;
    const actualSequence = this.#sequenceOf(consumer.name);
    if (actualSequence === consumer.expectedSequence) return undefined;
    if (actualSequence < consumer.expectedSequence) this.isBehind = true;
    return { ok: false, consumer: consumer.name, actualSequence };
  }

  #accept(commit: C): void {
    for (const { key, expectedVersion, events } of commit.appends)
      if (events > 0) this.#versions.set(key, expectedVersion + events);
    if (commit.consumer !== undefined) this.#sequences.set(commit.consumer.name, commit.consumer.expectedSequence + 1);
    this.accepted.push(commit);
  }
}
