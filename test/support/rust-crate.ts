import type { FileHandle, SimulatedDisk } from "eventfold-es/testing";
import { loadLineHash } from "../../src/file-store/caches/snapshot-format.ts";

const hash = await loadLineHash();

/** A line as the Rust crate writes it. */
export function crateLine(n: number, type = "Added"): string {
  return `{"type":"${type}","data":{"n":${n}},"ts":1700000000,"id":"crate-${n}"}\n`;
}

/** The crate's cursor of a stream whose file it has read up to the end of `text`. */
export function crateCursor(text: string): { readonly offset: number; readonly hash: string } {
  const bytes = Buffer.from(text);
  const line = text.slice(0, -1).split("\n").at(-1) ?? "";
  return { offset: bytes.length, hash: bytes.length === 0 ? "" : hash(Buffer.from(line)) };
}

/** The Rust crate as a process of its own: it holds the `flock` of the streams that it uses, and flushes each line. */
export class RustCrate {
  readonly #disk: SimulatedDisk;
  readonly #held = new Map<string, FileHandle>();

  constructor(disk: SimulatedDisk) {
    this.#disk = disk;
  }

  /** Starts an actor for a stream: takes its lock. False if another process has it. */
  open(path: string): boolean {
    this.#disk.makeDirectory(path.slice(0, path.lastIndexOf("/")));
    const file = this.#disk.process("the Rust crate").open(path, "create");
    if (file.tryLock()) this.#held.set(path, file);
    else file.close();
    return this.#held.has(path);
  }

  /** Appends bytes at the end of the file, durably. Its actor must be running. */
  append(path: string, text: string): void {
    const file = this.#held.get(path);
    if (file === undefined) throw new Error(`${path} has no actor`);
    const bytes = new TextEncoder().encode(text);
    file.write(bytes, 0, bytes.length, file.size());
    this.#disk.settle(path);
  }

  /** Ends the actor of a stream. */
  close(path: string): void {
    this.#held.get(path)?.close();
    this.#held.delete(path);
  }

  /** One execution: starts an actor, appends, ends the actor. False if another process holds the stream. */
  appendOnce(path: string, text: string): boolean {
    if (!this.open(path)) return false;
    this.append(path, text);
    this.close(path);
    return true;
  }
}
