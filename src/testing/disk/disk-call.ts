export type DiskOperation =
  | "open"
  | "openLock"
  | "stat"
  | "makeDirectory"
  | "readDirectory"
  | "realName"
  | "rename"
  | "remove"
  | "syncDirectory"
  | "size"
  | "read"
  | "write"
  | "writeDurably"
  | "flush"
  | "truncate"
  | "lock"
  | "unlock"
  | "isAtPath"
  | "close";

/** One call of a process to the disk. */
export interface DiskCall {
  /** 0, 1, 2 …, counted over all processes. */
  readonly index: number;
  readonly process: string;
  readonly operation: DiskOperation;
  readonly path: string;
  /** How many bytes the call reads or writes; for `truncate`, the new size. */
  readonly length?: number;
  readonly position?: number;
}

/** How a call fails. */
export interface DiskFault {
  readonly code: "EIO" | "ENOSPC" | "EDQUOT" | "EMFILE" | "EACCES" | (string & {});
  /** For a write: how many bytes it writes before it fails. Default: 0. */
  readonly written?: number;
  /**
   * For a flush and a durable write: what happens to the bytes that were not yet on the medium.
   *
   * - `"reverts"`: they are lost, and readers no longer see them. The default, except for `ENOSPC` and `EDQUOT`.
   * - `"lingers"`: readers still see them, but they never reach the medium.
   * - `"keeps"`: the next flush tries again. The default for `ENOSPC` and `EDQUOT`.
   * - `"done"`: they reached the medium although the call failed.
   */
  readonly unflushed?: "reverts" | "lingers" | "keeps" | "done";
}

/** An error of the operating system, as Node.js reports it. */
export function systemError(code: string, operation: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${operation} '${path}'`), { code, syscall: operation, path });
}
