/** How many bytes the parts of a store take. */
export interface StoreSizes {
  /** The events in their order, with what process managers have noted. */
  readonly log: number;
  /** The copies of the events by stream, if the storage keeps them. */
  readonly streams: number;
  /** What can be made again from the events: snapshots, checkpoints, indexes in files. */
  readonly caches: number;
  /** All else, e.g. dead letters, the list of streams, the quarantine. */
  readonly other: number;
  /** What `log` and `streams` hold of events that can no longer be read. */
  readonly reclaimable: number;
}

/** How a store is copied to a directory. */
export interface BackupOptions {
  /** Whether the directory may have an earlier copy, to which what is new is added. */
  readonly incremental: boolean;
  /** Whether the keys of personal fields are copied, too. Default: false. */
  readonly keys?: boolean | undefined;
  /** When it is aborted, the copy ends with its reason. The next one goes on where it ended. */
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes that are copied, and that are to be copied in all. */
  readonly onProgress?: ((progress: { readonly bytes: number; readonly totalBytes: number }) => void) | undefined;
}

/** What a copy to a directory has and what it cost. */
export interface BackupReport {
  /** Position of the last event of the copy. */
  readonly position: number;
  /** Bytes of the commit log that were copied now. */
  readonly bytes: number;
}

/** What may be removed from a store, and when to stop. */
export interface ReclaimOptions {
  /** Events that compactions after this position have replaced stay: a reader that starts over may need them. */
  readonly horizon: number;
  /** Events after this position that compactions after it have replaced stay: a reader has come so far. */
  readonly after: number;
  /** When it is aborted, the call ends with its reason. The next one goes on. */
  readonly signal?: AbortSignal | undefined;
  /** Asked between two files; when it returns true, the call ends. */
  readonly isOver?: (() => boolean) | undefined;
  readonly onProgress?: ((progress: { readonly segments: number; readonly totalSegments: number }) => void) | undefined;
}

/** The result of removing dropped events. */
export interface ReclaimReport {
  /** False if something that could be removed is left. */
  readonly isDone: boolean;
  /** How many replaced events stay because of `horizon` and `after`. */
  readonly kept: number;
  /** How many dropped events were removed. */
  readonly events: number;
  /** By how many bytes the log became smaller. */
  readonly bytes: number;
}
