import * as fs from "node:fs";
import * as path from "node:path";
import type { LockHolder, LockHolders } from "./file-system.ts";
import { systemErrorCode } from "./file-system.ts";

/**
 * The processes that have the `flock` of a file, from the lists of the Linux kernel in `proc`. Never throws: a caller wants to explain
 * another problem.
 */
export function lockHolders(file: string, proc = "/proc"): LockHolders {
  let locks: string;
  let identity: fs.BigIntStats;
  try {
    locks = fs.readFileSync(`${proc}/locks`, "latin1");
    identity = fs.statSync(file, { bigint: true });
  } catch (error) {
    return { holders: [], unknown: `${proc}/locks could not be read (${systemErrorCode(error) ?? String(error)})` };
  }
  const holders = holdersIn(locks, identity, (pid) => hasOpen(proc, pid, file)).map((pid) => describe(proc, pid));
  if (holders.length > 0) return { holders, unknown: undefined };
  return {
    holders,
    unknown: `${proc}/locks does not name it: it has just let go, or it runs in another container or on another machine`,
  };
}

/** A line is `<number>: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`; one with `->` waits. */
const LINE = /^\d+: FLOCK +ADVISORY +WRITE +(\d+) +([0-9a-f]+):([0-9a-f]+):(\d+) /gm;

function holdersIn(locks: string, { ino, dev }: fs.BigIntStats, hasFileOpen: (pid: number) => boolean): number[] {
  const pids = new Set<number>();
  for (const [, pid, major, minor, inode] of locks.matchAll(LINE)) {
    if (inode !== String(ino)) continue;
    const device = deviceOf(Number.parseInt(major ?? "", 16), Number.parseInt(minor ?? "", 16));
    // Btrfs and overlay file systems show another device number here than in `stat`.
    if (device === dev || hasFileOpen(Number(pid))) pids.add(Number(pid));
  }
  return [...pids];
}

/** The device number of Linux: 12 bits for the major number, 20 for the minor. */
function deviceOf(major: number, minor: number): bigint {
  return (BigInt(minor) & 0xffn) | (BigInt(major) << 8n) | ((BigInt(minor) & 0xfff00n) << 12n);
}

function hasOpen(proc: string, pid: number, file: string): boolean {
  try {
    const real = fs.realpathSync(file);
    const descriptors = `${proc}/${pid}/fd`;
    return fs.readdirSync(descriptors).some((name) => target(`${descriptors}/${name}`) === real);
  } catch {
    // The process of another user, or one that has ended.
    return false;
  }
}

function target(link: string): string | undefined {
  try {
    return fs.readlinkSync(link);
  } catch {
    return undefined;
  }
}

const STATES: Readonly<Record<string, LockHolder["state"]>> = { T: "stopped", t: "traced", D: "waiting for a disk" };

function describe(proc: string, pid: number): LockHolder {
  try {
    // `<pid> (<command>) <state> …`; the command may contain anything, parentheses too.
    const stat = fs.readFileSync(`${proc}/${pid}/stat`, "latin1");
    const end = stat.lastIndexOf(")");
    const command = stat.slice(stat.indexOf("(") + 1, end);
    return { pid, command: programOf(proc, pid) ?? command, state: STATES[stat[end + 2] ?? ""] ?? "running" };
  } catch {
    return { pid, command: undefined, state: undefined };
  }
}

/** The name of the program without its arguments, which may be secret. The kernel's name is that of a thread, e.g. `MainThread`. */
function programOf(proc: string, pid: number): string | undefined {
  const program = fs.readFileSync(`${proc}/${pid}/cmdline`, "utf8").split("\0")[0];
  return program === undefined || program === "" ? undefined : path.basename(program);
}
