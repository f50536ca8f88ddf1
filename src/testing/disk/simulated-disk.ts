import type { FileHandle, FileSystem, LockFile } from "../../fs/file-system.ts";
import type { DiskCall, DiskFault, DiskOperation } from "./disk-call.ts";
import type { Content } from "./simulated-content.ts";
import { type Machine, SimulatedProcess } from "./simulated-process.ts";
import { type DiskMoment, Tree } from "./simulated-tree.ts";
import { turn } from "../../event-loop.ts";

/** Thrown by every call after the power was cut. */
export class PowerCutError extends Error {
  override readonly name = "PowerCutError";

  constructor() {
    super("the power was cut");
  }
}

export interface SimulatedDiskOptions {
  /** How many turns of the event loop a flush takes. Default: 0. */
  readonly latency?: () => number;
  /** Whether calls are recorded in `calls`. Default: true. */
  readonly record?: boolean;
}

/**
 * A disk in memory that loses data like a real one. Written bytes can be read at once, but survive a power cut for
 * certain only after a flush; the name of a new, renamed or removed file only after a sync of its directory.
 * `disksAfterPowerCut` gives the disks that a power cut can leave. Any call can be made to fail, and all calls are recorded.
 *
 * The disk itself acts as one process; `process(name)` makes others.
 */
export class SimulatedDisk implements FileSystem {
  /** Every call so far, of all processes. */
  readonly calls: DiskCall[] = [];
  /** Called before each change of the disk. A power cut leaves something new only at these moments and at the end. */
  onStep: ((operation: DiskOperation, path: string, process: string) => void) | undefined;
  readonly #tree: Tree;
  readonly #latency: () => number;
  readonly #record: boolean;
  readonly #main: SimulatedProcess;
  readonly #machine: Machine;
  #processes = 1;
  #count = 0;
  #stopped = false;
  #stopAt: number | undefined;
  #faults: ((call: DiskCall) => DiskFault | undefined)[] = [];

  constructor(options: SimulatedDiskOptions = {}, tree: Tree = new Tree()) {
    this.#tree = tree;
    this.#latency = options.latency ?? (() => 0);
    this.#record = options.record ?? true;
    this.#machine = {
      tree: this.#tree,
      begin: (process, operation, path, length, position) => this.#begin(process, operation, path, length, position),
      step: (process, operation, path) => {
        this.#checkPower();
        this.onStep?.(operation, path, process);
      },
      wait: () => this.#wait(),
    };
    this.#main = new SimulatedProcess("main", this.#machine);
  }

  /** How many calls all processes have made. */
  get callCount(): number {
    return this.#count;
  }

  /** Starts another process on the same disk. */
  process(name = `process ${++this.#processes}`): SimulatedProcess {
    return new SimulatedProcess(name, this.#machine);
  }

  /** Makes one call fail: the next one, the next of an operation, or the next that a predicate chooses. */
  failNext(fault: DiskFault, which: DiskOperation | ((call: DiskCall) => boolean) = () => true): void {
    let due = true;
    this.failWhen((call) => {
      if (!due || !(typeof which === "function" ? which(call) : call.operation === which)) return undefined;
      due = false;
      return fault;
    });
  }

  /** Makes each call fail for which `fault` returns a fault. Returns a function that ends this. */
  failWhen(fault: (call: DiskCall) => DiskFault | undefined): () => void {
    this.#faults.push(fault);
    return () => {
      this.#faults = this.#faults.filter((other) => other !== fault);
    };
  }

  /** Cuts the power: from now on every call throws `PowerCutError`. */
  cutPower(): void {
    this.#stopped = true;
  }

  /** Cuts the power after the call with this index: every later call throws `PowerCutError`. */
  cutPowerAfter(index: number): void {
    this.#stopAt = index;
  }

  /** Makes all earlier writes durable: those to the file at `path`, or (without `path`) all. */
  settle(path?: string): void {
    if (path === undefined) this.#tree.settle();
    const node = path === undefined ? undefined : this.#tree.find(path);
    if (node?.directory === false) node.makeDurable(node.moment.ops);
  }

  /** The durable state and the pending operations at this moment, for `disksAfterPowerCut`. */
  moment(): DiskMoment {
    return this.#tree.moment();
  }

  /** The bytes of a file as processes see them; `undefined` if it does not exist. Not recorded as a call. */
  bytesOf(path: string): Uint8Array | undefined {
    return this.#contentOf(path)?.bytes();
  }

  /** The paths of all files as processes see them. */
  files(): string[] {
    return [...this.#tree.list()].map(([path]) => path);
  }

  #contentOf(path: string): Content | undefined {
    const node = this.#tree.find(path);
    return node === undefined || node.directory ? undefined : node.cached;
  }

  #begin(
    process: string,
    operation: DiskOperation,
    path: string,
    length: number | undefined,
    position: number | undefined,
  ): DiskFault | undefined {
    if (this.#stopAt !== undefined && this.#count > this.#stopAt) this.#stopped = true;
    this.#checkPower();
    const index = this.#count++;
    if (!this.#record && this.#faults.length === 0) return undefined;
    const call: DiskCall = {
      index,
      process,
      operation,
      path,
      ...(length === undefined ? {} : { length }),
      ...(position === undefined ? {} : { position }),
    };
    if (this.#record) this.calls.push(call);
    for (const fault of this.#faults) {
      const found = fault(call);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #checkPower(): void {
    if (this.#stopped) throw new PowerCutError();
  }

  async #wait(): Promise<void> {
    for (let turns = this.#latency(); turns > 0; turns--) await turn();
  }

  open(path: string, mode: "read" | "update" | "create", options?: { readonly durable?: boolean }): FileHandle {
    return this.#main.open(path, mode, options);
  }

  openLock(path: string): LockFile {
    return this.#main.openLock(path);
  }

  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined {
    return this.#main.stat(path);
  }

  makeDirectory(path: string): string | undefined {
    return this.#main.makeDirectory(path);
  }

  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[] {
    return this.#main.readDirectory(path);
  }

  realName(path: string): string {
    return this.#main.realName(path);
  }

  rename(from: string, to: string): void {
    this.#main.rename(from, to);
  }

  remove(path: string): void {
    this.#main.remove(path);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#main.syncDirectory(path);
  }

  resolve(path: string): string {
    return this.#main.resolve(path);
  }
}
