import { EventfoldError } from "../errors.ts";
import type { BackupReport, EventStore } from "../event-store/event-store.ts";
import type { CopyProgress } from "./directory-copies.ts";

export interface StoreBackupOptions {
  /** Whether the directory may have an earlier backup of this store, to which what is new is added. Default: false. */
  readonly incremental?: boolean;
  /** Copies the keys of personal fields, too. Without them, the backup has placeholders in their place. Default: false. */
  readonly keys?: boolean;
  /** Ends the backup with the signal's reason. The next one goes on where it ended. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CopyProgress) => void;
}

export async function backup(
  events: EventStore,
  target: string,
  { incremental = false, keys = false, signal, onProgress }: StoreBackupOptions,
): Promise<BackupReport> {
  if (typeof target !== "string" || target === "")
    throw new EventfoldError("INVALID_ARGUMENT", `backup expected the path of a directory, found ${String(target)}`);
  if (events.backup === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "backup expected a store in a directory, found another storage; export the store, and import it to one in a directory",
    );
  signal?.throwIfAborted();
  return events.backup(target, { incremental, keys, signal, onProgress });
}
