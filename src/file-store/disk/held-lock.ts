import type { FileSystem, LockHolder } from "../../fs/file-system.ts";

/** Who keeps a lock from us: the process that explains best why, or why none is known. */
export interface HeldLock {
  readonly holder: LockHolder | undefined;
  /** Why no holder is known. */
  readonly unknown: string | undefined;
}

/** How well a state explains that a lock is kept. */
const REASONS: readonly LockHolder["state"][] = ["stopped", "traced", "waiting for a disk", "running"];

/** Looks for who has one of the locks at `paths`. The first path counts most. */
export function findHolder(fs: FileSystem, paths: readonly string[]): HeldLock {
  if (fs.lockHolders === undefined)
    return { holder: undefined, unknown: "this system does not tell which process has a lock" };
  const found = paths.map((path) => fs.lockHolders?.(path) ?? { holders: [], unknown: undefined });
  const holders = found.flatMap((each) => each.holders);
  const holder =
    REASONS.map((reason) => holders.find(({ state }) => state === reason)).find((best) => best !== undefined) ??
    holders[0];
  return { holder, unknown: holder === undefined ? found[0]?.unknown : undefined };
}

/** Names the holder, and says what to do about it. */
export function describeHolder({ holder, unknown }: HeldLock): { readonly found: string; readonly remedy: string } {
  if (holder === undefined)
    return {
      found: `another process has it; which one could not be found out: ${unknown ?? "no reason is known"}`,
      remedy: "find the process that is stuck, and resume it or end it",
    };
  const { pid, command, state } = holder;
  const name = `process ${pid}${command === undefined ? "" : ` (${command})`}`;
  if (state === "stopped")
    return {
      found: `${name} has it and is stopped (by SIGSTOP or Ctrl+Z)`,
      remedy: `resume it with kill -CONT ${pid}, or end it`,
    };
  if (state === "traced")
    return { found: `${name} has it and is stopped in a debugger`, remedy: "let it go on in the debugger, or end it" };
  if (state === "waiting for a disk")
    return { found: `${name} has it and waits for a disk`, remedy: "check that disk, or end the process" };
  return { found: `${name} has it`, remedy: "wait for it or end it, and try again" };
}
