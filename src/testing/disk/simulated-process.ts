import type { FileHandle, FileSystem, LockFile } from "../../fs/file-system.ts";
import { type DiskFault, type DiskOperation, systemError } from "./disk-call.ts";
import { Content } from "./simulated-content.ts";
import { FileNode } from "./simulated-file.ts";
import { type HandleOwner, SimulatedHandle } from "./simulated-handle.ts";
import { DirectoryNode, type EntryChange, type Node, type Tree } from "./simulated-tree.ts";

/** The machine that a process runs on. */
export interface Machine {
  readonly tree: Tree;
  /** Records a call and returns its fault, if it is to fail. Throws when the power is cut. */
  begin(
    process: string,
    operation: DiskOperation,
    path: string,
    length?: number,
    position?: number,
  ): DiskFault | undefined;
  /** Called before each change of the disk. */
  step(process: string, operation: DiskOperation, path: string): void;
  /** Waits as long as the medium takes. */
  wait(): Promise<void>;
}

/** Thrown by every call of a process that was killed. */
export class ProcessKilledError extends Error {
  override readonly name = "ProcessKilledError";
}

/** One process on a simulated disk. It has open files of its own, and its locks end with it. */
export class SimulatedProcess implements FileSystem, HandleOwner {
  readonly name: string;
  readonly #machine: Machine;
  readonly #open = new Set<SimulatedHandle>();
  #killed = false;

  constructor(name: string, machine: Machine) {
    this.name = name;
    this.#machine = machine;
  }

  /**
   * Kills the process: its locks are released, its writes stay in the page cache, and every later call throws
   * `ProcessKilledError`.
   */
  kill(): void {
    this.#killed = true;
    for (const handle of this.#open) handle.unlockQuietly();
    this.#open.clear();
  }

  /** Records a call, and throws its fault if it is to fail. */
  call(operation: DiskOperation, path: string, length?: number, position?: number): void {
    const fault = this.begin(operation, path, length, position);
    if (fault !== undefined) throw systemError(fault.code, operation, path);
  }

  begin(operation: DiskOperation, path: string, length?: number, position?: number): DiskFault | undefined {
    this.checkAlive();
    const fault = this.#machine.begin(this.name, operation, path, length, position);
    // A fault's predicate may have killed this process.
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

  isAt(path: string, file: FileNode): boolean {
    return this.#machine.tree.find(path) === file;
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
      isAtPath: () => handle.isAtPath(),
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
