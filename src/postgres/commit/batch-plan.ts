import type { CommitChain, CommitResult } from "../../event-store/event-store.ts";
import { toStored } from "../stored-text.ts";
import type { PreparedAppend, PreparedCommit, PreparedProgress } from "./prepared-commit.ts";

/** What the server has said about streams and consumers that were not where a batch expected them. */
export interface Known {
  readonly versions: Map<string, number>;
  readonly sequences: Map<string, number>;
}

/**
 * Which commits of a batch are to be written, and which have to be refused, in the order of the calls: as if every stream and consumer
 * was where the first commit that names it expects it, or where the server has said it is. The server compares the former in the
 * same transaction that writes, so a plan that it accepts has come true as a whole.
 */
export class BatchPlan<C extends PreparedCommit> {
  readonly accepted: { readonly commit: C; readonly events: number }[] = [];
  readonly refused: { readonly commit: C; readonly result: CommitResult }[] = [];
  readonly #known: Known;
  readonly #streams = new Map<string, Place>();
  readonly #consumers = new Map<string, Place>();
  readonly #broken = new Set<CommitChain>();

  readonly #s: [aggregates: string[], ids: string[]] = [[], []];
  readonly #e: EventValues = [[], [], [], [], [], [], [], [], [], [], []];
  readonly #n: [names: string[], sequences: number[], notes: string[]] = [[], [], []];
  /** Dead letters in the order in which they come and go; one that is settled has no text. */
  readonly #l: [names: string[], keys: string[], letters: Nullable[]] = [[], [], []];

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

  /** How many events it writes. */
  get events(): number {
    return this.#e[0].length;
  }

  /** Whether the server would change anything, so that carrying it out twice is not the same as once. */
  get writes(): boolean {
    return this.events > 0 || this.#n[0].length > 0;
  }

  /** The arguments of `commit_batch` after its first three. */
  get values(): unknown[] {
    const streams = [...this.#streams.values()].map(({ first }) => first);
    const consumers = [...this.#consumers];
    return [
      ...this.#s,
      streams,
      consumers.map(([name]) => name),
      consumers.map(([, { first }]) => first),
      ...this.#e,
      ...this.#n,
      ...this.#l,
    ];
  }

  /** Takes down where a stream (kind 0) or consumer (kind 1) really is, by its number in the values, from 1 on. */
  correct(kind: number, number: number, actual: number): void {
    const keys = [...(kind === 0 ? this.#streams : this.#consumers).keys()];
    const key = keys[number - 1];
    if (key !== undefined) (kind === 0 ? this.#known.versions : this.#known.sequences).set(key, actual);
  }

  #refusalOf({ appends, progress, chain }: C): CommitResult | undefined {
    const isBroken = chain !== undefined && (chain.broken || this.#broken.has(chain));
    for (const { stream, key, expectedVersion } of appends) {
      const actualVersion = this.#streams.get(key)?.now ?? this.#known.versions.get(key) ?? expectedVersion;
      if (actualVersion !== expectedVersion || isBroken) return { ok: false, stream, actualVersion };
    }
    if (progress === undefined) return undefined;
    const { name, expectedSequence } = progress;
    const actualSequence = this.#consumers.get(name)?.now ?? this.#known.sequences.get(name) ?? expectedSequence;
    return actualSequence === expectedSequence ? undefined : { ok: false, consumer: name, actualSequence };
  }

  #accept(commit: C): void {
    const before = this.events;
    for (const append of commit.appends) this.#append(append);
    if (commit.progress !== undefined) this.#note(commit.progress);
    this.accepted.push({ commit, events: this.events - before });
  }

  #append({ stream, key, expectedVersion, events }: PreparedAppend): void {
    let place = this.#streams.get(key);
    if (place === undefined) {
      this.#streams.set(
        key,
        (place = { number: this.#streams.size + 1, first: expectedVersion, now: expectedVersion }),
      );
      this.#s[0].push(stream.type);
      this.#s[1].push(toStored(stream.id));
    }
    for (const columns of events) {
      const row = [place.number, ++place.now, ...columns] as const;
      row.forEach((value, i) => (this.#e[i] as unknown[]).push(value));
    }
  }

  #note({ name, expectedSequence, note, letters, dropped }: PreparedProgress): void {
    const number = this.#consumers.size + 1;
    const place = this.#consumers.get(name) ?? { number, first: expectedSequence, now: expectedSequence };
    this.#consumers.set(name, place);
    this.#n[0].push(name);
    this.#n[1].push(++place.now);
    this.#n[2].push(note);
    for (const [key, letter] of [...letters, ...dropped.map((key) => [key, null] as const)]) {
      this.#l[0].push(name);
      this.#l[1].push(key);
      this.#l[2].push(letter);
    }
  }
}

type Nullable = string | null;

/** A list for each column: stream, version, and those of `EventColumns`. */
type EventValues = [
  ...[number[], number[], string[], string[], number[], number[]],
  ...[Nullable[], Nullable[], Nullable[], Nullable[]],
  (number | null)[],
];

/** Where a stream or consumer is: before the batch, and after what of the batch is accepted so far. */
interface Place {
  readonly number: number;
  readonly first: number;
  now: number;
}
