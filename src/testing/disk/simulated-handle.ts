import type { FileHandle } from "../../fs/file-system.ts";
import { type DiskFault, type DiskOperation, systemError } from "./disk-call.ts";
import { isZero } from "./simulated-content.ts";
import type { FileNode, FileOp } from "./simulated-file.ts";

/** The process that a handle belongs to. */
export interface HandleOwner {
  /** Records a call and returns its fault, if it is to fail. Throws if the process cannot make calls any more. */
  begin(operation: DiskOperation, path: string, length?: number, position?: number): DiskFault | undefined;
  /** Called before each change of the disk. */
  step(operation: DiskOperation, path: string): void;
  /** Waits as long as the medium takes. */
  wait(): Promise<void>;
  /** Whether the entry at a path is this file. */
  isAt(path: string, file: FileNode): boolean;
  /** The handle was closed. */
  closed(handle: SimulatedHandle): void;
}

/**
 * Zeros that every large write of zeros shares. A store reserves room by writing zeros, and each moment of an
 * exploration would keep a copy of its own.
 */
let zeros = new Uint8Array(0);

/** A copy of the bytes. `slice` of a Node.js buffer would share them. */
function copyOf(buffer: Uint8Array, offset: number, length: number): Uint8Array {
  const bytes = buffer.subarray(offset, offset + length);
  if (length < 4096 || !isZero(bytes)) return new Uint8Array(bytes);
  if (zeros.length < length) zeros = new Uint8Array(length);
  return zeros.subarray(0, length);
}

/** One open file description of a simulated process. */
export class SimulatedHandle implements FileHandle {
  readonly path: string;
  readonly #process: HandleOwner;
  readonly #file: FileNode;
  readonly #writable: boolean;
  readonly #durable: boolean;
  #closed = false;
  #writes = 0;

  constructor(process: HandleOwner, path: string, file: FileNode, writable: boolean, durable: boolean) {
    this.#process = process;
    this.path = path;
    this.#file = file;
    this.#writable = writable;
    this.#durable = durable;
  }

  size(): number {
    this.#call("size");
    return this.#file.cached.size;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    this.#call("read", length, position);
    return this.#file.cached.read(buffer, offset, length, position);
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): void {
    const fault = this.#begin("write", length, position);
    this.#step("write");
    const count = fault === undefined ? length : Math.min(length, fault.written ?? 0);
    // A plain write is not durable even on a handle opened for durable writes: the port promises no more.
    if (count > 0) this.#file.change(position, copyOf(buffer, offset, count));
    if (fault !== undefined) throw systemError(fault.code, "write", this.path);
  }

  writeDurably(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
    onTheSpot = false,
  ): Promise<void> | void {
    // Every other write takes its time all the same, so that the process can die during it.
    if (!onTheSpot || this.#writes++ % 2 === 0)
      return this.#writeInBackground(() => this.#beginWrite(buffer, offset, length, position));
    this.#beginWrite(buffer, offset, length, position)();
  }

  async #writeInBackground(begin: () => () => void): Promise<void> {
    const end = begin();
    await this.#process.wait();
    end();
  }

  /** Begins a write and returns its second half. The power can be cut between the two. */
  #beginWrite(buffer: Uint8Array, offset: number, length: number, position: number): () => void {
    if (!this.#durable) throw systemError("EBADF", "writeDurably", this.path);
    const fault = this.#begin("writeDurably", length, position);
    this.#step("writeDurably");
    const count = fault?.code === "ENOSPC" || fault?.code === "EDQUOT" ? Math.min(length, fault.written ?? 0) : length;
    const ops = count === 0 ? [] : [this.#file.change(position, copyOf(buffer, offset, count))];
    return () => {
      this.#step("writeDurably");
      if (fault === undefined) this.#file.makeDurable(ops);
      else this.#fail("writeDurably", fault, ops);
    };
  }

  async flush(): Promise<void> {
    const fault = this.#begin("flush");
    const ops = this.#file.moment.ops.filter((op) => !op.durable);
    await this.#process.wait();
    this.#step("flush");
    if (fault === undefined) this.#file.makeDurable(ops);
    else this.#fail("flush", fault, ops);
  }

  flushNow(): void {
    const fault = this.#begin("flush");
    const ops = this.#file.moment.ops.filter((op) => !op.durable);
    this.#step("flush");
    if (fault === undefined) this.#file.makeDurable(ops);
    else this.#fail("flush", fault, ops);
  }

  #fail(operation: DiskOperation, fault: DiskFault, ops: readonly FileOp[]): never {
    const { code, unflushed = code === "ENOSPC" || code === "EDQUOT" ? "keeps" : "reverts" } = fault;
    if (unflushed === "done") this.#file.makeDurable(ops);
    else if (unflushed !== "keeps") this.#file.drop(ops, unflushed);
    throw systemError(code, operation, this.path);
  }

  truncate(size: number): void {
    this.#call("truncate", size);
    if (!this.#writable) throw systemError("EINVAL", "ftruncate", this.path);
    this.#step("truncate");
    this.#file.change(size, undefined);
  }

  tryLock(): boolean {
    this.#call("lock");
    if (this.#file.lockedBy !== undefined && this.#file.lockedBy !== this) return false;
    this.#file.lockedBy = this;
    return true;
  }

  unlock(): void {
    this.#call("unlock");
    this.unlockQuietly();
  }

  unlockQuietly(): void {
    if (this.#file.lockedBy === this) this.#file.lockedBy = undefined;
  }

  isAtPath(): boolean {
    this.#call("isAtPath");
    return this.#process.isAt(this.path, this.#file);
  }

  close(): void {
    this.#call("close");
    this.#closed = true;
    this.unlockQuietly();
    this.#process.closed(this);
  }

  #begin(operation: DiskOperation, length?: number, position?: number): DiskFault | undefined {
    const fault = this.#process.begin(operation, this.path, length, position);
    if (this.#closed) throw systemError("EBADF", operation, this.path);
    if (operation.startsWith("write") && !this.#writable) throw systemError("EBADF", operation, this.path);
    return fault;
  }

  #call(operation: DiskOperation, length?: number, position?: number): void {
    const fault = this.#begin(operation, length, position);
    if (fault !== undefined) throw systemError(fault.code, operation, this.path);
  }

  #step(operation: DiskOperation): void {
    this.#process.step(operation, this.path);
  }
}
