import type { Content } from "./simulated-content.ts";

/** A write or truncation that may not have reached the medium. */
export interface FileOp {
  readonly id: number;
  /** It has reached the medium. */
  readonly durable: boolean;
  /** Where `bytes` are written; without `bytes`, the size to which the file is cut or extended. */
  readonly position: number;
  readonly bytes: Uint8Array | undefined;
}

/** The durable content of a file and the operations since. Never changed, only replaced. */
export interface FileMoment {
  readonly id: number;
  readonly durable: Content;
  /** In the order in which they were made. A durable operation stays in the list while one before it is not durable. */
  readonly ops: readonly FileOp[];
}

let lastId = 0;

/** An id that no other operation and no other content has. */
export function nextId(): number {
  return ++lastId;
}

/** Applies an operation to content. */
export function applyFileOp(content: Content, op: FileOp): void {
  if (op.bytes === undefined) content.resize(op.position);
  else content.write(op.bytes, op.position);
}

/** A file: the content that processes see, and what of it is durable. */
export class FileNode {
  readonly directory = false;
  /** The page cache: what processes read. */
  #cached: Content;
  #cachedIsOurs = false;
  moment: FileMoment;
  /** The open file description that holds the `flock`. */
  lockedBy: object | undefined;

  constructor(durable: Content, ops: readonly FileOp[] = [], id: number = nextId()) {
    this.#cached = durable;
    this.moment = { id, durable, ops };
    if (ops.length === 0) return;
    this.#cached = durable.copy();
    this.#cachedIsOurs = true;
    for (const op of ops) applyFileOp(this.#cached, op);
  }

  get cached(): Content {
    return this.#cached;
  }

  /** Changes what processes read, and returns the operation, which is not durable yet. */
  change(position: number, bytes: Uint8Array | undefined): FileOp {
    if (!this.#cachedIsOurs) this.#cached = this.#cached.copy();
    this.#cachedIsOurs = true;
    const op: FileOp = { id: nextId(), durable: false, position, bytes };
    applyFileOp(this.#cached, op);
    this.moment = { ...this.moment, ops: [...this.moment.ops, op] };
    return op;
  }

  /** The operations have reached the medium. */
  makeDurable(done: readonly FileOp[]): void {
    if (done.length === 0) return;
    const ids = new Set(done.map(({ id }) => id));
    let { id, durable } = this.moment;
    const ops = this.moment.ops.map((op) => (ids.has(op.id) ? { ...op, durable: true } : op));
    if (ops[0]?.durable === true) {
      durable = durable.copy();
      for (let first = ops[0]; first?.durable === true; first = ops[0]) {
        applyFileOp(durable, first);
        ops.shift();
      }
      id = nextId();
    }
    this.moment = { id, durable, ops };
  }

  /**
   * A flush failed, and these operations will never reach the medium. With `"reverts"`, readers no longer see them;
   * with `"lingers"`, they still do.
   */
  drop(lost: readonly FileOp[], how: "reverts" | "lingers"): void {
    const ids = new Set(lost.map(({ id }) => id));
    this.moment = { ...this.moment, ops: this.moment.ops.filter((op) => op.durable || !ids.has(op.id)) };
    if (how === "lingers") return;
    this.#cached = this.moment.durable.copy();
    this.#cachedIsOurs = true;
    for (const op of this.moment.ops) applyFileOp(this.#cached, op);
  }
}
