import type { FileSystem } from "../fs/file-system.ts";

/** What `verify` can find. */
export type FindingKind =
  /** A copy into this directory was not completed, or is being made. Without a part that is whole, the directory cannot be used. */
  | "copy-incomplete"
  /** Nothing is wrong: a process died, and the next opening completes what it left. */
  | "needs-recovery"
  /** Bytes of the commit log that are no record although one was there. */
  | "log-damaged"
  /** A part of the commit log, or all of it, is gone. */
  | "log-missing"
  /** What a process manager noted in a damaged part of the log; it stands nowhere else. */
  | "notes-lost"
  /** The commit log contradicts itself in a way that no damage to its bytes explains. */
  | "log-inconsistent"
  /** A stream's file differs from the commit log's copy. */
  | "stream-damaged"
  /** A stream's file is gone. */
  | "stream-missing"
  /** A stream's file holds events that the commit log does not have. */
  | "stream-ahead"
  /** Events of the Rust crate that the next reading adopts. */
  | "foreign-events"
  /** The first events of a stream are in an archive of the Rust crate, which this library does not read. */
  | "archived-events"
  /** An event that no copy holds in a readable form. */
  | "event-lost"
  /** Two events of one stream have one id. */
  | "duplicate-event-id"
  /** Two directories stand for one id. */
  | "id-ambiguous"
  /** Two ids that are one directory on file systems that ignore case or normalise names. */
  | "id-collision"
  /** The Rust crate has used an id whose file is not in a directory of its own. */
  | "unreachable-id"
  | "registry-damaged"
  | "marker-damaged"
  | "head-damaged"
  | "stream-ends-damaged"
  | "cuts-damaged"
  | "keys-damaged"
  | "snapshot-damaged"
  | "checkpoint-damaged"
  | "dead-letters-damaged"
  /** A snapshot or checkpoint is not where one may have been. */
  | "cache-missing"
  /** A file that cannot be read at all; the message has the system's error. */
  | "file-unreadable"
  /** A temporary file that a dead process has left. */
  | "leftover"
  /** Something that no version of this library has written. */
  | "unknown-file";

/**
 * `"error"`: events, or process managers' notes, are damaged or missing. `"warning"`: a cache or a hint is; it costs time, or is
 * worth knowing. `"info"`: nothing is wrong.
 */
export type FindingSeverity = "error" | "warning" | "info";

/** One thing that `verify` found. */
export interface Finding {
  readonly kind: FindingKind;
  readonly severity: FindingSeverity;
  /** Absolute path. */
  readonly file: string;
  /** 1-based line in the file. */
  readonly line?: number;
  /** Offset of the first byte in the file that is not as it should be. */
  readonly offset?: number;
  /** For people; may change. */
  readonly message: string;
  /** Whether `repair` puts it right without losing anything. */
  readonly repairable: boolean;
}

/** How much there is in a store. */
export interface StoreCounts {
  /** Streams with at least one event. */
  readonly streams: number;
  /** Events in the commit log. */
  readonly events: number;
  /** Records of the commit log: commits that shared a flush count once. */
  readonly commits: number;
  /** Files of the commit log. */
  readonly segments: number;
  readonly snapshots: number;
  readonly checkpoints: number;
  readonly deadLetters: number;
  /** Bytes in the commit log and the streams' files. */
  readonly bytes: number;
}

/** What `verify` returns. */
export interface VerifyReport {
  /** Absolute path of the store. */
  readonly directory: string;
  /** Whether nothing is wrong: there are no findings, or informative ones only. */
  readonly clean: boolean;
  /**
   * Whether the store's lock was held for the end of the log. If not (the directory is read-only, or another process held the lock), a
   * commit that is just being written may look like damage.
   */
  readonly locked: boolean;
  readonly counts: StoreCounts;
  readonly findings: readonly Finding[];
}

/** What `repair` does, or with `dryRun` would do, about one finding. */
export interface RepairAction {
  /** Absolute path of the file that is changed. */
  readonly file: string;
  /** For people; may change. */
  readonly message: string;
  /** Where the replaced bytes are kept; missing when there were none, and with `dryRun`. */
  readonly quarantined?: string;
}

/** What `repair` returns. */
export interface RepairReport {
  readonly directory: string;
  readonly dryRun: boolean;
  readonly actions: readonly RepairAction[];
  /** What could not be brought back, because no copy of it is left. */
  readonly lost: readonly Finding[];
  /** The store before. */
  readonly before: VerifyReport;
  /** The store after; with `dryRun`, as it is. */
  readonly after: VerifyReport;
}

/** Options of `verify`. */
export interface VerifyOptions {
  /** Another implementation of the file port, for tests. */
  readonly fileSystem?: FileSystem;
}

/** Options of `repair`. */
export interface RepairOptions extends VerifyOptions {
  /** Only tell what would be done. */
  readonly dryRun?: boolean;
}

/** A place in the log's files where bytes can be had. */
export interface LogBytes {
  readonly segment: number;
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/** One record of the log, as bytes. */
export interface LogRun {
  readonly segment: number;
  /** Bytes of the segment that are replaced. */
  readonly from: number;
  readonly to: number;
  /** The records that stand there afterwards; empty for none. */
  readonly records: Buffer;
  /** A segment of its own, instead of a place in an existing one. */
  readonly isNew: boolean;
}

/** A repair of a finding. */
export type Fix =
  /** Put back what the log has of a stream. */
  | { readonly kind: "restore"; readonly path: string; readonly at: number; readonly source: LogBytes }
  /** Move everything from an offset on to quarantine. */
  | { readonly kind: "cut"; readonly path: string; readonly from: number }
  /** Replace a run of bytes in the log. */
  | { readonly kind: "log"; readonly run: LogRun }
  /** Write the first line of a segment again. */
  | { readonly kind: "log-header"; readonly segment: number }
  /** Replace the whole file. */
  | { readonly kind: "replace"; readonly path: string; readonly content: string | Buffer }
  /** Like `replace`, for a file that living processes may have open: it stays the same file. */
  | { readonly kind: "overwrite"; readonly path: string; readonly content: string }
  /** Move to quarantine: the file is rebuilt when it is needed. */
  | { readonly kind: "remove"; readonly path: string }
  /** Let recovery start at a place that is right, and others read up to the log's end. */
  | { readonly kind: "marker" };

/** A finding with what `repair` needs to know. */
export interface Problem extends Omit<Finding, "repairable"> {
  readonly fix?: Fix;
  /** What the fix does, for people. */
  readonly remedy?: string;
  /** The fix brings the store in order, but not back what was lost. */
  readonly lossy?: boolean;
}

export function findingOf({ fix, remedy: _remedy, lossy = false, ...rest }: Problem): Finding {
  return { ...rest, repairable: fix !== undefined && !lossy };
}

/** Bytes of a file; fewer if it is shorter. They are in `into`, which must have room for them, if it is given. */
export function readAt(fs: FileSystem, path: string, from: number, length: number, into?: Buffer): Buffer {
  const file = fs.open(path, "read");
  try {
    const size = Math.max(0, Math.min(length, file.size() - from));
    const bytes = into ?? Buffer.alloc(size);
    return bytes.subarray(0, file.read(bytes, 0, size, from));
  } finally {
    file.close();
  }
}

/** The 1-based number of the line that a byte is in. */
export function lineAt(bytes: Uint8Array, offset: number): number {
  let line = 1;
  for (let at = bytes.indexOf(0x0a); at >= 0 && at < offset; at = bytes.indexOf(0x0a, at + 1)) line++;
  return line;
}
