import type { Checkpoint, ConsumerKind, Snapshot, StreamName } from "../event-store/event-store.ts";
import { isJsonValue } from "../json.ts";
import { isBox, open, seal } from "./boxes.ts";
import type { KeyRing } from "./key-ring.ts";
import type { PersonalModel } from "./personal-model.ts";

/** The subject of the key that encrypts states. Each forgetting destroys it, so that all such states are made again. */
export const CACHES = "eventfold:caches";

/** The state of a sealed snapshot or checkpoint. These keys are part of the format on disk: see docs/format.md. */
interface SealedState {
  readonly personal: unknown;
}

/**
 * Encrypts the states that may have personal data: of aggregates whose events have some, and of what reads them. A state that cannot be
 * opened counts as missing, which costs reading events again.
 */
export class PersonalCaches {
  readonly #ring: KeyRing;
  readonly #model: PersonalModel;
  /** Aggregates of which an event with personal fields was read, whether the contract declares them or not. */
  readonly #found = new Set<string>();
  /** Consumers of which an encrypted state was loaded. */
  readonly #opened = new Set<string>();

  constructor(ring: KeyRing, model: PersonalModel) {
    this.#ring = ring;
    this.#model = model;
  }

  /** An event of the aggregate has personal fields. */
  found(aggregate: string): void {
    this.#found.add(aggregate);
  }

  /** The key of what is kept for a process manager, if that may have personal data. */
  readonly ofConsumer = async (name: string): Promise<readonly string[]> =>
    name.includes(":") || !this.#isPersonal("process-manager", name) ? [] : [await this.#key()];

  #isPersonal(kind: ConsumerKind, name: string): boolean {
    // They have a position and nothing else, or names that the definitions have.
    if (kind === "subscription" || kind === "model") return false;
    const sources = kind === "aggregate" ? [name] : this.#model.sourcesOf(kind, name);
    return (
      this.#opened.has(`${kind}/${name}`) ||
      sources === undefined ||
      sources.some((aggregate) => this.#found.has(aggregate) || this.#model.declares(aggregate))
    );
  }

  async #key(): Promise<string> {
    await this.#ring.obtain([CACHES]);
    return this.#ring.ofSubject(CACHES)?.id ?? "";
  }

  /** A snapshot as it is written; nothing if its state was made in an earlier era. */
  async sealSnapshot(stream: StreamName, { era, ...snapshot }: Snapshot): Promise<Snapshot | undefined> {
    if (!this.#isPersonal("aggregate", stream.type)) return snapshot;
    if (!isJsonValue(snapshot.state)) return undefined;
    const text = JSON.stringify(snapshot.state);
    const id = await this.#key();
    if (era !== this.#ring.era) return undefined;
    const place = snapshotPlace(stream, snapshot);
    return { ...snapshot, state: { personal: seal(this.#ring, [id], place, text) } satisfies SealedState };
  }

  async openSnapshot(stream: StreamName, snapshot: Snapshot | undefined): Promise<Snapshot | undefined> {
    if (snapshot === undefined) return undefined;
    const opened = await this.#open("aggregate", stream.type, snapshot.state, snapshotPlace(stream, snapshot));
    return opened === undefined ? undefined : { ...snapshot, state: opened.value };
  }

  /** A checkpoint as it is written; nothing if its state was made in an earlier era. */
  async sealCheckpoint(
    kind: ConsumerKind,
    name: string,
    { era, ...checkpoint }: Checkpoint,
  ): Promise<Checkpoint | undefined> {
    if (!this.#isPersonal(kind, name)) return checkpoint;
    const { state, samples, ...rest } = checkpoint;
    if (!isJsonValue(state)) return undefined;
    // Before anything is awaited: the state may be the live one.
    const text = JSON.stringify({ state, samples });
    const id = await this.#key();
    if (era !== this.#ring.era) return undefined;
    const personal = seal(this.#ring, [id], checkpointPlace(kind, name, checkpoint), text);
    return { ...rest, state: { personal } satisfies SealedState };
  }

  async openCheckpoint(
    kind: ConsumerKind,
    name: string,
    checkpoint: Checkpoint | undefined,
  ): Promise<Checkpoint | undefined> {
    // The Rust crate's is its own.
    if (checkpoint === undefined || checkpoint.versions !== undefined || checkpoint.untrusted !== undefined)
      return checkpoint;
    if (kind === "subscription" || kind === "model") return checkpoint;
    const opened = await this.#open(kind, name, checkpoint.state, checkpointPlace(kind, name, checkpoint));
    if (opened === undefined) return undefined;
    return opened.isSealed ? { ...checkpoint, ...(opened.value as Pick<Checkpoint, "state" | "samples">) } : checkpoint;
  }

  /** `undefined` for a state that cannot be opened, and for one that should have been encrypted. */
  async #open(
    kind: ConsumerKind,
    name: string,
    state: unknown,
    place: readonly string[],
  ): Promise<{ readonly value: unknown; readonly isSealed: boolean } | undefined> {
    const personal = typeof state === "object" && state !== null && "personal" in state ? state.personal : undefined;
    if (!isBox(personal)) return this.#isPersonal(kind, name) ? undefined : { value: state, isSealed: false };
    await this.#ring.load(personal.keys);
    const opened = open(this.#ring, personal, place);
    if (typeof opened === "string") return undefined;
    this.#opened.add(`${kind}/${name}`);
    return { value: opened.value, isSealed: true };
  }
}

function snapshotPlace({ type, id }: StreamName, { version, fingerprint }: Snapshot): readonly string[] {
  return ["snapshot", type, id, String(version), fingerprint];
}

function checkpointPlace(
  kind: ConsumerKind,
  name: string,
  { position, fingerprint = "" }: Checkpoint,
): readonly string[] {
  return ["checkpoint", kind, name, String(position), fingerprint];
}
