import type { StoredDeadLetter } from "../../event-store/event-store.ts";
import { type EventIdentity, eventDigest } from "../../event-store/event-digest.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { CRATE_CHECKPOINT, CheckpointFiles } from "../caches/checkpoint-files.ts";
import { loadLineHash } from "../caches/snapshot-format.ts";
import { makeDirectoryDurably, parentOf } from "../disk/durable-directory.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";
import { DeadLetterFiles, isCrateKey } from "../progress/dead-letter-files.ts";

/** What a store keeps in no log: how far named subscriptions are, and what the Rust crate wrote. */
export interface BesideLog {
  readonly subscriptions: readonly { readonly name: string; readonly position: number }[];
  /** Paths below the store's directory, with their contents. */
  readonly files: readonly { readonly path: string; readonly bytes: Buffer }[];
  readonly crateLetters: readonly { readonly name: string; readonly letters: readonly StoredDeadLetter[] }[];
}

/** Reads it. Done before the end of the log is determined, so that no subscription is ahead of a copy of the log. */
export async function readBesideLog(fs: FileSystem, paths: StorePaths): Promise<BesideLog> {
  const checkpoints = new CheckpointFiles(fs, paths, { hash: await loadLineHash(), openStream: () => undefined });
  const files: { path: string; bytes: Buffer }[] = [];
  const keep = (path: string): void => {
    const bytes = readWhole(fs, `${paths.base}/${path}`);
    if (bytes !== undefined) files.push({ path, bytes });
  };
  const subscriptions = checkpoints.list("subscription").flatMap((name) => {
    const saved = checkpoints.load("subscription", name);
    keep(`subscriptions/${name}/checkpoint.eventfold.json`);
    return saved === undefined ? [] : [{ name, position: saved.checkpoint.position }];
  });
  for (const kind of ["projections", "process_managers"])
    for (const name of directoriesIn(fs, `${paths.base}/${kind}`)) keep(`${kind}/${name}/${CRATE_CHECKPOINT}`);
  const letterFiles = new DeadLetterFiles(fs, paths);
  const crateLetters = directoriesIn(fs, `${paths.base}/process_managers`).flatMap((name) => {
    const letters = [...letterFiles.read(name).values()].filter(({ key }) => isCrateKey(name, key));
    return letters.length === 0 ? [] : [{ name, letters }];
  });
  return { subscriptions, files, crateLetters };
}

/**
 * Writes it to a copy that ends at a position, durably. A subscription that is further goes on after that position: it has had all
 * events before. `last` is the event there.
 */
export async function writeBesideLog(
  fs: FileSystem,
  paths: StorePaths,
  { subscriptions, files, crateLetters }: BesideLog,
  end: number,
  last: EventIdentity | undefined,
): Promise<void> {
  for (const { path, bytes } of files) {
    const target = `${paths.base}/${path}`;
    if (readWhole(fs, target)?.equals(bytes) === true) continue;
    await makeDirectoryDurably(fs, parentOf(target), paths.base);
    await replaceFile(fs, target, bytes, true);
  }
  const checkpoints = new CheckpointFiles(fs, paths, { hash: await loadLineHash(), openStream: () => undefined });
  const mark = last === undefined ? {} : { last: { since: end - 1, event: eventDigest(last) } };
  for (const { name, position } of subscriptions) {
    if (position <= end) continue;
    const checkpoint = { state: null, position: end, ...mark };
    await checkpoints.save("subscription", name, { checkpoint, place: undefined, sequence: undefined }, true);
  }
  // Letters of the log come with the log.
  const letters = new DeadLetterFiles(fs, paths);
  for (const { name, letters: deadLetters } of crateLetters) {
    const directory = `${paths.base}/process_managers/${name}`;
    await makeDirectoryDurably(fs, directory, paths.base);
    letters.apply([{ name, sequence: 0, note: {}, deadLetters }]);
    await fs.syncDirectory(directory);
  }
}

function directoriesIn(fs: FileSystem, path: string): string[] {
  return fs.readDirectory(path).flatMap(({ name, directory }) => (directory ? [name] : []));
}
