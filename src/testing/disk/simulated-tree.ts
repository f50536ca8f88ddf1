import { Content } from "./simulated-content.ts";

/** A write or truncation that may not have reached the medium. */
export interface FileOp {
  readonly id: number;
  /** It is on the medium for certain. */
  readonly durable: boolean;
  /** Given for a write: where it goes, and its bytes; else the file is cut or extended to `position`. */
  readonly position: number;
  readonly bytes: Uint8Array | undefined;
}

/** What is certain about a file on the medium, and what is not. Never changed, only replaced. */
export interface FileMoment {
  readonly id: number;
  readonly durable: Content;
  /** In the order in which they were made; an operation that is certain stays behind one that is not. */
  readonly ops: readonly FileOp[];
}

/** A change of directory entries that happens as a whole or not at all. */
export interface EntryOp {
  readonly id: number;
  readonly durable: boolean;
  readonly what: string;
  readonly changes: readonly EntryChange[];
}

export interface EntryChange {
  readonly directory: DirectoryNode;
  readonly name: string;
  /** What the name stands for from now on; nothing when it goes away. */
  readonly node: Node | undefined;
}

export type Node = FileNode | DirectoryNode;

let lastId = 0;

/** The effect of an operation on content. */
export function applyFileOp(content: Content, op: FileOp): void {
  if (op.bytes === undefined) content.resize(op.position);
  else content.write(op.bytes, op.position);
}

export class FileNode {
  readonly directory = false;
  /** What processes read: the page cache. */
  #cached: Content;
  #cachedIsOurs = false;
  moment: FileMoment;
  /** The open file description that has the `flock`. */
  lockedBy: object | undefined;

  constructor(durable: Content, ops: readonly FileOp[] = [], id: number = ++lastId) {
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

  /** Changes what processes read; returns the operation, which is not durable yet. */
  change(position: number, bytes: Uint8Array | undefined): FileOp {
    if (!this.#cachedIsOurs) this.#cached = this.#cached.copy();
    this.#cachedIsOurs = true;
    const op: FileOp = { id: ++lastId, durable: false, position, bytes };
    applyFileOp(this.#cached, op);
    this.moment = { ...this.moment, ops: [...this.moment.ops, op] };
    return op;
  }

  /** The operations are on the medium. */
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
      id = ++lastId;
    }
    this.moment = { id, durable, ops };
  }

  /** A flush has failed and dropped what was not on the medium; readers may (`"lingers"`) still see it, but it will never get there. */
  drop(lost: readonly FileOp[], how: "reverts" | "lingers"): void {
    const ids = new Set(lost.map(({ id }) => id));
    this.moment = { ...this.moment, ops: this.moment.ops.filter((op) => op.durable || !ids.has(op.id)) };
    if (how === "lingers") return;
    this.#cached = this.moment.durable.copy();
    this.#cachedIsOurs = true;
    for (const op of this.moment.ops) applyFileOp(this.#cached, op);
  }
}

export class DirectoryNode {
  readonly directory = true;
  readonly entries: Map<string, Node>;
  /** The entries that are on the medium for certain. Never changed, only replaced. */
  durable: ReadonlyMap<string, Node>;

  constructor(durable: ReadonlyMap<string, Node> = new Map()) {
    this.entries = new Map(durable);
    this.durable = durable;
  }
}

/** Everything that decides which disks a power cut at one moment can leave. */
export interface DiskMoment {
  readonly root: DirectoryNode;
  readonly files: ReadonlyMap<FileNode, FileMoment>;
  readonly directories: ReadonlyMap<DirectoryNode, ReadonlyMap<string, Node>>;
  readonly entryOps: readonly EntryOp[];
}

/** A tree of files and directories with what is certain and what is pending. */
export class Tree {
  readonly root: DirectoryNode;
  readonly #files = new Set<FileNode>();
  readonly #directories = new Set<DirectoryNode>();
  entryOps: readonly EntryOp[] = [];

  constructor(root: DirectoryNode = new DirectoryNode()) {
    this.root = root;
    this.#note(root);
  }

  /** The tree as it was at a moment, with all that was pending then. */
  static at(moment: DiskMoment): Tree {
    const copies = new Map<Node, Node>();
    const copy = <N extends Node>(node: N): N => {
      let twin = copies.get(node);
      if (twin === undefined) {
        if (node.directory) {
          twin = new DirectoryNode();
          copies.set(node, twin);
          twin.durable = new Map([...(moment.directories.get(node) ?? [])].map(([name, child]) => [name, copy(child)]));
          for (const [name, child] of twin.durable) twin.entries.set(name, child);
        } else {
          const { durable, ops, id } = moment.files.get(node) ?? { durable: new Content(), ops: [], id: ++lastId };
          twin = new FileNode(durable, ops, id);
          copies.set(node, twin);
        }
      }
      return twin as N;
    };
    const tree = new Tree(copy(moment.root));
    tree.entryOps = moment.entryOps.map((op) => ({
      ...op,
      changes: op.changes.map(({ directory, name, node }) => ({
        directory: copy(directory),
        name,
        node: node === undefined ? undefined : copy(node),
      })),
    }));
    for (const { changes } of tree.entryOps) for (const change of changes) tree.#carryOut(change);
    return tree;
  }

  #carryOut({ directory, name, node }: EntryChange): void {
    if (node === undefined) directory.entries.delete(name);
    else {
      directory.entries.set(name, node);
      this.#note(node);
    }
  }

  #note(node: Node): void {
    if (!node.directory) {
      this.#files.add(node);
      return;
    }
    this.#directories.add(node);
    for (const child of node.entries.values()) this.#note(child);
  }

  find(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const name of path.split("/")) {
      if (name === "") continue;
      if (node?.directory !== true) return undefined;
      node = node.entries.get(name);
    }
    return node;
  }

  /** The directory that holds a path's last name. */
  parent(path: string): { readonly directory: DirectoryNode | undefined; readonly name: string } {
    const slash = path.lastIndexOf("/");
    const found = this.find(path.slice(0, slash));
    return { directory: found?.directory === true ? found : undefined, name: path.slice(slash + 1) };
  }

  change(what: string, changes: readonly EntryChange[]): void {
    for (const change of changes) this.#carryOut(change);
    this.entryOps = [...this.entryOps, { id: ++lastId, durable: false, what, changes }];
  }

  /** The pending changes of a directory's own entries. */
  pendingOf(directory: DirectoryNode): readonly EntryOp[] {
    return this.entryOps.filter((op) => !op.durable && op.changes.some((change) => change.directory === directory));
  }

  makeDurable(done: readonly EntryOp[]): void {
    if (done.length === 0) return;
    const ids = new Set(done.map(({ id }) => id));
    const kept: EntryOp[] = [];
    for (const op of this.entryOps.map((other) => (ids.has(other.id) ? { ...other, durable: true } : other))) {
      if (!op.durable || kept.some((earlier) => touchSameEntry(earlier, op))) {
        kept.push(op);
        continue;
      }
      for (const { directory, name, node } of op.changes) {
        const entries = new Map(directory.durable);
        if (node === undefined) entries.delete(name);
        else entries.set(name, node);
        directory.durable = entries;
      }
    }
    this.entryOps = kept;
  }

  /** Makes everything durable. */
  settle(): void {
    this.makeDurable(this.entryOps);
    for (const file of this.#files) file.makeDurable(file.moment.ops);
  }

  moment(): DiskMoment {
    const files = new Map<FileNode, FileMoment>();
    for (const file of this.#files) files.set(file, file.moment);
    const directories = new Map<DirectoryNode, ReadonlyMap<string, Node>>();
    for (const directory of this.#directories) directories.set(directory, directory.durable);
    return { root: this.root, files, directories, entryOps: this.entryOps };
  }

  /** Every file with its path, as processes see them. */
  *list(directory: DirectoryNode = this.root, path = ""): Generator<readonly [path: string, file: FileNode]> {
    for (const [name, node] of directory.entries) {
      if (node.directory) yield* this.list(node, `${path}/${name}`);
      else yield [`${path}/${name}`, node];
    }
  }
}

function touchSameEntry(a: EntryOp, b: EntryOp): boolean {
  return a.changes.some((x) => b.changes.some((y) => x.directory === y.directory && x.name === y.name));
}
