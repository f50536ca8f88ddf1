import { Content } from "./simulated-content.ts";
import { type FileMoment, FileNode, nextId } from "./simulated-file.ts";

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
  /** The file or directory of that name from now on; `undefined` if the name is removed. */
  readonly node: Node | undefined;
}

export type Node = FileNode | DirectoryNode;

/** A directory: the entries that processes see, and those that are durable. */
export class DirectoryNode {
  readonly directory = true;
  readonly entries: Map<string, Node>;
  /** The entries that have reached the medium. Never changed, only replaced. */
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

/** A tree of files and directories, with its durable state and the operations since. */
export class Tree {
  readonly root: DirectoryNode;
  readonly #files = new Set<FileNode>();
  readonly #directories = new Set<DirectoryNode>();
  entryOps: readonly EntryOp[] = [];

  constructor(root: DirectoryNode = new DirectoryNode()) {
    this.root = root;
    this.#note(root);
  }

  /** The tree as it was at a moment, with the operations that were pending. */
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
          const { durable, ops, id } = moment.files.get(node) ?? { durable: new Content(), ops: [], id: nextId() };
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
    this.entryOps = [...this.entryOps, { id: nextId(), durable: false, what, changes }];
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
