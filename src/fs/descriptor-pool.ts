import * as fs from "node:fs";
import { systemErrorCode } from "./file-system.ts";

/** How many directories are flushed at the same time: each needs a descriptor until its flush has ended. */
const MOST_FLUSHES = 16;
/** Of the descriptors that the process may have, about these are needed for the program itself and for the log. */
const RESERVED = 48;

/** How many files the process may have open; infinite where that cannot be read. Node.js raises the soft limit to the hard one. */
function openFileLimit(): number {
  try {
    const [, limit] = /^Max open files\s+(\d+)/m.exec(fs.readFileSync("/proc/self/limits", "utf8")) ?? [];
    return limit === undefined ? Infinity : Number(limit);
  } catch {
    return Infinity;
  }
}

/**
 * The descriptors of this process for files that can be opened again. When they become many, or the system refuses another, those that are
 * not in use are closed; the next use opens them again. One pool serves all stores of a process, as there is one limit.
 */
export class DescriptorPool {
  readonly #most: number;
  /** How many files may be locked at the same time: a lock needs its descriptor. */
  readonly mostLocks: number;
  /** Those that are open, roughly the longest unused first. */
  readonly #open = new Set<PooledDescriptor>();
  #flushes = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number = openFileLimit()) {
    this.#most = Math.max(8, Math.floor(limit / 2) - 8);
    this.mostLocks = Math.max(4, Math.floor((limit - RESERVED) / 2));
  }

  /** Opens a file, and makes room first if that is needed. */
  open(path: string, flags: number, mode?: number): number {
    return this.withRoom(() => fs.openSync(path, flags, mode));
  }

  /** Calls the system. If it has no descriptor left, gives back those that are not in use, and calls again. */
  withRoom<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      const code = systemErrorCode(error);
      if ((code !== "EMFILE" && code !== "ENFILE") || !this.#shrinkTo(0)) throw error;
      return call();
    }
  }

  added(descriptor: PooledDescriptor): void {
    // Before it is added: it is about to be used, and the others may all be pinned.
    if (this.#open.size >= this.#most) this.#shrinkTo(this.#most - 1);
    this.#open.add(descriptor);
  }

  removed(descriptor: PooledDescriptor): void {
    this.#open.delete(descriptor);
  }

  /** Runs a flush that opens a file of its own, when not too many others run. */
  async flushing(work: () => Promise<void>): Promise<void> {
    if (this.#flushes >= MOST_FLUSHES) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#flushes++;
    try {
      await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#flushes--;
      else next();
    }
  }

  /** Closes unused ones until no more than `count` are open. Those that were used lately get a second chance. Returns whether it closed any. */
  #shrinkTo(count: number): boolean {
    const before = this.#open.size;
    for (const isLastChance of [false, true]) {
      for (const descriptor of this.#open) {
        if (this.#open.size <= count) return true;
        if (descriptor.wasUsed && !isLastChance) descriptor.wasUsed = false;
        else descriptor.park();
      }
    }
    return this.#open.size < before;
  }
}

/** A descriptor that the pool may close while it is not pinned. */
export class PooledDescriptor {
  wasUsed = true;
  readonly #pool: DescriptorPool;
  readonly #path: string;
  readonly #flags: number;
  #descriptor: number | undefined;
  #pins = 0;
  #isClosed = false;
  /** The file that was open when the descriptor was given back. */
  #identity: string | undefined;

  /** `flags` must not create or empty the file: they open it again. */
  constructor(pool: DescriptorPool, path: string, flags: number, descriptor: number) {
    this.#pool = pool;
    this.#path = path;
    this.#flags = flags;
    this.#descriptor = descriptor;
    pool.added(this);
  }

  /** The descriptor, good until other files are opened. */
  get(): number {
    this.wasUsed = true;
    return this.#descriptor ?? this.#openAgain();
  }

  /** The descriptor, good until `unpin`: what the system does in the background, and locks, belong to it. */
  pin(): number {
    const descriptor = this.get();
    this.#pins++;
    return descriptor;
  }

  unpin(): void {
    this.#pins--;
  }

  /** Gives the descriptor back, unless it is pinned. */
  park(): void {
    if (this.#descriptor === undefined || this.#pins > 0) return;
    this.#identity = identityOf(this.#descriptor);
    this.#release(this.#descriptor);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#descriptor !== undefined) this.#release(this.#descriptor);
  }

  #release(descriptor: number): void {
    // First: the number may belong to another file in a moment.
    this.#descriptor = undefined;
    this.#pool.removed(this);
    fs.closeSync(descriptor);
  }

  #openAgain(): number {
    if (this.#isClosed) throw Object.assign(new Error(`${this.#path} is closed`), { code: "EBADF" });
    const descriptor = this.#pool.open(this.#path, this.#flags);
    if (identityOf(descriptor) !== this.#identity) {
      fs.closeSync(descriptor);
      throw Object.assign(new Error(`expected the file that was at ${this.#path} before, found another one`), {
        code: "ESTALE",
      });
    }
    this.#descriptor = descriptor;
    this.#pool.added(this);
    return descriptor;
  }
}

function identityOf(descriptor: number): string {
  const { dev, ino } = fs.fstatSync(descriptor, { bigint: true });
  return `${dev}:${ino}`;
}
