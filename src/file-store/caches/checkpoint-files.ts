import { crc32 } from "node:zlib";
import { isChecksum, sealed } from "../disk/checksum.ts";
import type { Checkpoint, ConsumerKind } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import { isCount, isJsonValue } from "../../json.ts";
import { ioError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";
import { encodeId } from "../../stream-names.ts";
import type { LogPlace } from "../log/log-place.ts";
import { isError } from "../../realm.ts";
import { type CrateFiles, readCrateCheckpoint } from "./crate-checkpoint.ts";

const DIRECTORIES: Readonly<Record<ConsumerKind, string>> = {
  projection: "projections",
  "process-manager": "process_managers",
  subscription: "subscriptions",
  aggregate: "aggregates",
  model: "meta",
};

/** The name of our checkpoints. */
export const CHECKPOINT = "checkpoint.eventfold.json";
/** The name of the Rust crate's checkpoints. */
export const CRATE_CHECKPOINT = "checkpoint.json";

/** A checkpoint with what only this store knows of it. */
export interface SavedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** A place in the log before the checkpoint's last event; only a hint. */
  readonly place: LogPlace | undefined;
  /** The sequence of a process manager's last note in the log when the checkpoint was saved. */
  readonly sequence: number | undefined;
}

/**
 * `projections/<name>/checkpoint.eventfold.json`, and the same of the other kinds: `state, position,
 * horizon, fingerprint, last, samples, bookmark, sequence, crate`, and `crc` over all before it.
 *
 * `checkpoint.json` beside it belongs to the Rust crate, which would begin at the first event without it, so it is never
 * written. It is read when there is none of ours, or when it has changed since ours was made (`crate` is its digest).
 */
export class CheckpointFiles {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #crateFiles: CrateFiles;
  /** By directory: the digest of the Rust crate's checkpoint that was last looked at. */
  readonly #digests = new Map<string, string | undefined>();

  /** Whether a sample of how an event was folded may have something of a dropped event. */
  readonly #isDropped: (kind: ConsumerKind, sample: unknown) => boolean;

  constructor(
    fs: FileSystem,
    paths: StorePaths,
    crateFiles: CrateFiles,
    isDropped: (kind: ConsumerKind, sample: unknown) => boolean = () => false,
  ) {
    this.#isDropped = isDropped;
    this.#fs = fs;
    this.#paths = paths;
    this.#crateFiles = crateFiles;
  }

  load(kind: ConsumerKind, name: string): SavedCheckpoint | undefined {
    try {
      const ours = this.#ours(kind, name);
      const intact = ours === "damaged" ? undefined : ours;
      const bytes = this.#crates(kind, name);
      if (bytes === undefined || (intact !== undefined && intact.crate === this.#digest(kind, name)))
        return intact?.saved;
      // The one that is lost may have been made by later code, to which the state of the Rust crate means nothing. (A process
      // manager's log tells which of the crate's checkpoints it has taken over.)
      if (ours === "damaged" && kind === "projection") return undefined;
      return { checkpoint: this.#foreign(kind, name, bytes), place: undefined, sequence: undefined };
    } catch (error) {
      throw ioError(error, `reading the checkpoint of ${name}`);
    }
  }

  /** That of the Rust crate, whatever ours says. */
  loadForeign(kind: ConsumerKind, name: string): Checkpoint | undefined {
    try {
      const bytes = this.#crates(kind, name);
      return bytes && this.#foreign(kind, name, bytes);
    } catch (error) {
      throw ioError(error, `reading the checkpoint of ${name}`);
    }
  }

  #foreign(kind: ConsumerKind, name: string, bytes: Buffer): Checkpoint {
    const found = readCrateCheckpoint(bytes, this.#crateFiles);
    if (!("problem" in found)) return { ...found, position: 0 };
    const file = `${this.#directory(kind, name)}/${CRATE_CHECKPOINT}`;
    return { state: undefined, untrusted: { file, problem: found.problem }, position: 0 };
  }

  /** Not kept (and so rebuilt at the next opening) when the state would not come back from JSON as it is. */
  async save(
    kind: ConsumerKind,
    name: string,
    { checkpoint, place, sequence }: SavedCheckpoint,
    durable = false,
  ): Promise<void> {
    if (!isJsonValue(checkpoint.state)) return;
    const { state, position, horizon, fingerprint, last, samples } = this.#withoutDropped(kind, checkpoint);
    const bookmark = place === undefined ? undefined : [place.segment, place.offset, place.position];
    const directory = this.#directory(kind, name);
    try {
      this.#fs.makeDirectory(directory);
      const crate = this.#digest(kind, name);
      const text = JSON.stringify({
        ...{ state, position, horizon, fingerprint, last, samples, bookmark, sequence, crate },
      }).slice(0, -1);
      await replaceFile(this.#fs, `${directory}/${CHECKPOINT}`, sealed(text), durable);
    } catch (error) {
      throw ioError(error, `writing the checkpoint of ${name}`);
    }
  }

  /**
   * Removes samples of dropped events from all checkpoints, durably. Needs the store's lock, so that no other process does so meanwhile.
   */
  async removeSamples(): Promise<void> {
    for (const kind of Object.keys(DIRECTORIES) as ConsumerKind[]) {
      for (const name of this.list(kind)) {
        const path = `${this.#directory(kind, name)}/${CHECKPOINT}`;
        const text = readWhole(this.#fs, path)?.toString("utf8") ?? "";
        if (this.#ours(kind, name) === undefined || !text.includes('"samples":[{')) continue;
        const checkpoint = JSON.parse(text) as Checkpoint & { crc?: string };
        delete checkpoint.crc;
        const kept = this.#withoutDropped(kind, checkpoint);
        if (kept !== checkpoint) await replaceFile(this.#fs, path, sealed(JSON.stringify(kept).slice(0, -1)), true);
      }
    }
  }

  /** A checkpoint without samples that may have something of a dropped event. It is the same if there are none. */
  #withoutDropped<C extends Checkpoint>(kind: ConsumerKind, checkpoint: C): C {
    if (kind !== "aggregate") {
      const samples = this.#keptSamples(kind, checkpoint.samples);
      return samples === checkpoint.samples ? checkpoint : { ...checkpoint, samples };
    }
    const state = checkpoint.state as { readonly samples?: readonly unknown[] } | null;
    const samples = this.#keptSamples(kind, state?.samples);
    return samples === state?.samples ? checkpoint : { ...checkpoint, state: { ...state, samples } };
  }

  #keptSamples(kind: ConsumerKind, samples: readonly unknown[] | undefined): readonly unknown[] | undefined {
    const kept = samples?.filter((sample) => !this.#isDropped(kind, sample));
    return kept?.length === samples?.length ? samples : kept;
  }

  /** The names of those that have a checkpoint, of ours or of the Rust crate. */
  list(kind: ConsumerKind): readonly string[] {
    try {
      return this.#fs
        .readDirectory(`${this.#paths.base}/${DIRECTORIES[kind]}`)
        .filter(({ name, directory }) => directory && this.#exists(kind, name))
        .map(({ name }) => name)
        .sort(compareCodePoints);
    } catch (error) {
      throw ioError(error, `reading the list of checkpoints`);
    }
  }

  #exists(kind: ConsumerKind, name: string): boolean {
    const directory = this.#directory(kind, name);
    return [CHECKPOINT, CRATE_CHECKPOINT].some((file) => this.#fs.stat(`${directory}/${file}`) !== undefined);
  }

  #ours(kind: ConsumerKind, name: string): OwnCheckpoint | "damaged" | undefined {
    const text = readWhole(this.#fs, `${this.#directory(kind, name)}/${CHECKPOINT}`)?.toString("utf8");
    if (text === undefined) return undefined;
    const match = /,"crc":"([0-9a-f]{8})"\}$/.exec(text.slice(-20));
    if (match === null) return "damaged";
    const checked = text.slice(0, -match[0].length);
    if (!isChecksum(match[1], crc32(checked))) return "damaged";
    try {
      const { crate, ...saved } = JSON.parse(`${checked}}`) as Checkpoint & Hints;
      return { saved: savedCheckpoint(saved), crate };
    } catch (error) {
      if (isError(error) && error.name === "SyntaxError") return "damaged";
      throw error;
    }
  }

  /** The Rust crate's checkpoint. Notes its digest, of which the next checkpoint of ours is made. */
  #crates(kind: ConsumerKind, name: string): Buffer | undefined {
    if (kind !== "projection" && kind !== "process-manager") return undefined;
    const directory = this.#directory(kind, name);
    const bytes = readWhole(this.#fs, `${directory}/${CRATE_CHECKPOINT}`);
    this.#digests.set(directory, bytes && this.#crateFiles.hash(bytes));
    return bytes;
  }

  /** The digest of the Rust crate's checkpoint that our state follows: the crate may have replaced it since. */
  #digest(kind: ConsumerKind, name: string): string | undefined {
    const directory = this.#directory(kind, name);
    if (!this.#digests.has(directory)) this.#crates(kind, name);
    return this.#digests.get(directory);
  }

  #directory(kind: ConsumerKind, name: string): string {
    return `${this.#paths.base}/${DIRECTORIES[kind]}/${encodeId(name)}`;
  }
}

/** What the file has besides the checkpoint itself. */
interface Hints {
  readonly bookmark?: unknown;
  readonly sequence?: unknown;
  readonly crate?: unknown;
}

interface OwnCheckpoint {
  readonly saved: SavedCheckpoint;
  /** Digest of the Rust crate's checkpoint that it follows. */
  readonly crate: unknown;
}

function savedCheckpoint({ bookmark, sequence, ...checkpoint }: Checkpoint & Hints): SavedCheckpoint {
  return { checkpoint, place: placeOf(bookmark), sequence: isCount(sequence) ? sequence : undefined };
}

function placeOf(bookmark: unknown): LogPlace | undefined {
  if (!Array.isArray(bookmark)) return undefined;
  const [segment, offset, position] = bookmark as readonly unknown[];
  if (!isCount(segment) || !isCount(offset) || !isCount(position) || offset === 0) return undefined;
  return { segment, offset, position };
}
