import type { FileHandle, FileSystem, LockFile } from "../../fs/file-system.ts";
import { Content, isZero } from "../disk/simulated-content.ts";
import { DirectoryNode, type EntryChange, FileNode, type Node, type Tree } from "../disk/simulated-tree.ts";

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
  | "close";

/** One call of a process to the disk. */
export interface DiskCall {
  /** 0, 1, 2 … over all processes. */
  readonly index: number;
  readonly process: string;
  readonly operation: DiskOperation;
  readonly path: string;
  /** Bytes to read or write, or the new size. */
  readonly length?: number;
  readonly position?: number;
}

/** How a call fails. */
export interface DiskFault {
  readonly code: "EIO" | "ENOSPC" | "EDQUOT" | "EMFILE" | "EACCES" | (string & {});
  /** For a write: how many bytes are written before it fails; 0 if left out. */
  readonly written?: number;
  /**
   * For a flush and a durable write: what becomes of the bytes that were not on the medium. `"reverts"` (default): they are gone for
   * readers too. `"lingers"`: they can be read but will never reach the medium. `"keeps"`: the next flush tries
   * again. `"done"`: they are on the medium all the same.
   */
  readonly unflushed?: "reverts" | "lingers" | "keeps" | "done";
}

/** What a process needs of the machine that it runs on. */
export interface Machine {
  readonly tree: Tree;
  /** Notes a call; gives its fault if it is to fail; throws when the machine has no power. */
  begin(
    process: string,
    operation: DiskOperation,
    path: string,
    length?: number,
    position?: number,
  ): DiskFault | undefined;
  /** Something is about to change on the disk. */
  step(process: string, operation: DiskOperation, path: string): void;
  /** Waits as long as a call to the medium takes. */
  wait(): Promise<void>;
}

/** The process has been killed: it does nothing any more. */
export class ProcessKilledError extends Error {
  override readonly name = "ProcessKilledError";
}

/** An error as Node.js reports those of the operating system. */
export function systemError(code: string, operation: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${operation} '${path}'`), { code, syscall: operation, path });
}

/** One process: its own open files, and locks that end when it does. */
export class SimulatedProcess implements FileSystem {
  readonly name: string;
  readonly #machine: Machine;
  readonly #open = new Set<SimulatedHandle>();
  #killed = false;

  constructor(name: string, machine: Machine) {
    this.name = name;
    this.#machine = machine;
  }

  /** Ends it without warning: its locks are free, its writes stay in the page cache, its calls fail from now on. */
  kill(): void {
    this.#killed = true;
    for (const handle of this.#open) handle.unlockQuietly();
    this.#open.clear();
  }

  /** Notes a call; throws when it is to fail. */
  call(operation: DiskOperation, path: string, length?: number, position?: number): void {
    const fault = this.begin(operation, path, length, position);
    if (fault !== undefined) throw systemError(fault.code, operation, path);
  }

  begin(operation: DiskOperation, path: string, length?: number, position?: number): DiskFault | undefined {
    this.checkAlive();
    const fault = this.#machine.begin(this.name, operation, path, length, position);
    // Whoever decides about faults may have killed us.
    this.checkAlive();
    return fault;
  }

  step(operation: DiskOperation, path: string): void {
    this.#machine.step(this.name, operation, path);
    this.checkAlive();
  }

  async wait(): Promise<void> {
    await this.#machine.wait();
    this.checkAlive();
  }

  checkAlive(): void {
    if (this.#killed) throw new ProcessKilledError(`process ${this.name} was killed`);
  }

  closed(handle: SimulatedHandle): void {
    this.#open.delete(handle);
  }

  open(path: string, mode: "read" | "update" | "create", options?: { readonly durable?: boolean }): FileHandle {
    this.call("open", path);
    return this.#handle("open", path, mode, options?.durable === true);
  }

  openLock(path: string): LockFile {
    this.call("openLock", path);
    const handle = this.#handle("openLock", path, "create", false);
    return {
      tryAcquire: () => handle.tryLock(),
      release: () => handle.unlock(),
      close: () => handle.close(),
    };
  }

  #handle(
    operation: DiskOperation,
    path: string,
    mode: "read" | "update" | "create",
    durable: boolean,
  ): SimulatedHandle {
    const { tree } = this.#machine;
    let node = tree.find(path);
    if (node?.directory === true) throw systemError("EISDIR", "open", path);
    if (node === undefined) {
      const { directory, name } = tree.parent(path);
      if (mode !== "create" || directory === undefined) throw systemError("ENOENT", "open", path);
      this.step(operation, path);
      node = new FileNode(new Content());
      tree.change(`create ${path}`, [{ directory, name, node }]);
    }
    const handle = new SimulatedHandle(this, path, node, mode !== "read", durable);
    this.#open.add(handle);
    return handle;
  }

  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined {
    this.call("stat", path);
    const node = this.#machine.tree.find(path);
    return node === undefined ? undefined : { size: node.directory ? 0 : node.cached.size, directory: node.directory };
  }

  makeDirectory(path: string): string | undefined {
    this.call("makeDirectory", path);
    const { tree } = this.#machine;
    let directory = tree.root;
    let at = "";
    let topmost: string | undefined;
    for (const name of path.split("/")) {
      if (name === "") continue;
      at += `/${name}`;
      let child = directory.entries.get(name);
      if (child === undefined) {
        this.step("makeDirectory", at);
        child = new DirectoryNode();
        tree.change(`mkdir ${at}`, [{ directory, name, node: child }]);
        topmost ??= at;
      }
      if (!child.directory) throw systemError("EEXIST", "mkdir", at);
      directory = child;
    }
    return topmost;
  }

  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[] {
    this.call("readDirectory", path);
    const node = this.#machine.tree.find(path);
    if (node === undefined) return [];
    if (!node.directory) throw systemError("ENOTDIR", "scandir", path);
    return [...node.entries].map(([name, entry]) => ({ name, directory: entry.directory }));
  }

  realName(path: string): string {
    this.call("realName", path);
    if (this.#machine.tree.find(path) === undefined) throw systemError("ENOENT", "realpath", path);
    return path.slice(path.lastIndexOf("/") + 1);
  }

  rename(from: string, to: string): void {
    this.call("rename", from);
    const { tree } = this.#machine;
    const node = tree.find(from);
    const source = tree.parent(from);
    const target = tree.parent(to);
    if (node === undefined || source.directory === undefined || target.directory === undefined)
      throw systemError("ENOENT", "rename", from);
    const replaced = tree.find(to);
    if (replaced === node) return;
    if (replaced?.directory === true && replaced.entries.size > 0) throw systemError("ENOTEMPTY", "rename", from);
    this.step("rename", to);
    tree.change(`rename ${from} to ${to}`, [
      { directory: source.directory, name: source.name, node: undefined },
      { directory: target.directory, name: target.name, node },
    ]);
  }

  remove(path: string): void {
    this.call("remove", path);
    const { tree } = this.#machine;
    const node = tree.find(path);
    const { directory, name } = tree.parent(path);
    if (node !== undefined && directory !== undefined) this.#remove(path, node, { directory, name, node: undefined });
  }

  #remove(path: string, node: Node, change: EntryChange): void {
    if (node.directory) {
      for (const [name, child] of [...node.entries])
        this.#remove(`${path}/${name}`, child, { directory: node, name, node: undefined });
    }
    this.step("remove", path);
    this.#machine.tree.change(`remove ${path}`, [change]);
  }

  async syncDirectory(path: string): Promise<void> {
    this.call("syncDirectory", path);
    const { tree } = this.#machine;
    const node = path === "/" ? tree.root : tree.find(path);
    if (node === undefined) throw systemError("ENOENT", "open", path);
    if (!node.directory) return;
    const pending = tree.pendingOf(node);
    await this.wait();
    this.step("syncDirectory", path);
    tree.makeDurable(pending);
  }

  resolve(path: string): string {
    const names: string[] = [];
    for (const name of path.split("/")) {
      if (name === "..") names.pop();
      else if (name !== "" && name !== ".") names.push(name);
    }
    return `/${names.join("/")}`;
  }
}

/** Room that is prepared by writing zeros is large, and every moment of an exploration would keep its own. */
let zeros = new Uint8Array(0);

/** A copy that nobody else can change; `slice` of a Node.js buffer is none. */
function copyOf(buffer: Uint8Array, offset: number, length: number): Uint8Array {
  const bytes = buffer.subarray(offset, offset + length);
  if (length < 4096 || !isZero(bytes)) return new Uint8Array(bytes);
  if (zeros.length < length) zeros = new Uint8Array(length);
  return zeros.subarray(0, length);
}

/** One open file description. */
class SimulatedHandle implements FileHandle {
  readonly path: string;
  readonly #process: SimulatedProcess;
  readonly #file: FileNode;
  readonly #writable: boolean;
  readonly #durable: boolean;
  #closed = false;
  #writes = 0;

  constructor(process: SimulatedProcess, path: string, file: FileNode, writable: boolean, durable: boolean) {
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
    // Also on a handle that was opened for durable writes: the port promises no more.
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
    // Every other one takes its time all the same, so that the process can die in the middle of it.
    if (!onTheSpot || this.#writes++ % 2 === 0)
      return this.#writeInBackground(() => this.#beginWrite(buffer, offset, length, position));
    this.#beginWrite(buffer, offset, length, position)();
  }

  async #writeInBackground(begin: () => () => void): Promise<void> {
    const end = begin();
    await this.#process.wait();
    end();
  }

  /** Between the two the machine can lose its power. */
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

  #fail(operation: DiskOperation, fault: DiskFault, ops: Parameters<FileNode["makeDurable"]>[0]): never {
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
