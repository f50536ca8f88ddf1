import { applyOutcome, type Choices, choose, WHOLE } from "./power-cut-choices.ts";
import { seededRandom } from "./random.ts";
import { Content } from "./simulated-content.ts";
import { SimulatedDisk, type SimulatedDiskOptions } from "./simulated-disk.ts";
import { FileNode } from "./simulated-file.ts";
import { DirectoryNode, type DiskMoment, type Node, Tree } from "./simulated-tree.ts";

export interface PowerCutOptions {
  /** How many disks at most. If a power cut can leave more, they are sampled. Default: 100. */
  readonly maxDisks?: number;
  readonly seed?: number | string;
  /** Options of the disks that are returned. */
  readonly disk?: SimulatedDiskOptions;
}

/** A disk as a power cut may leave it. */
export interface DiskAfterPowerCut {
  readonly disk: SimulatedDisk;
  /** One line for each pending operation: whether it reached the medium. Human-readable. */
  readonly story: () => string;
  /** Two disks with the same key hold the same files. */
  readonly key: string;
}

/**
 * The disks that a power cut at a moment can leave. Every flushed byte is there. Each write since is there whole, cut at
 * a sector or a byte, with a hole, as mere room filled with zeros, or not at all; each unsynced change of a directory is
 * there or not. The first disk has none of these, the second has all.
 */
export function* disksAfterPowerCut(
  from: SimulatedDisk | DiskMoment,
  options: PowerCutOptions = {},
): Generator<DiskAfterPowerCut, void, undefined> {
  const { maxDisks = 100, seed = 0 } = options;
  const moment = from instanceof SimulatedDisk ? from.moment() : from;
  const entryOps = moment.entryOps.filter((op) => !op.durable);
  const fileOps = [...reachableFiles(moment)].flatMap((file) =>
    (moment.files.get(file)?.ops ?? []).filter((op) => !op.durable),
  );
  const seen = new Set<string>();
  for (const choices of choose(entryOps, fileOps, maxDisks, seededRandom(seed))) {
    const { root, key } = build(moment, choices);
    if (seen.has(key)) continue;
    seen.add(key);
    yield { disk: new SimulatedDisk(options.disk, new Tree(root)), story: () => tell(moment, choices), key };
    if (seen.size >= maxDisks) return;
  }
}

/**
 * The disk after all processes were killed at a moment. Everything that they wrote can be read. Bytes that were not durable
 * still are not. Their locks are released.
 */
export function diskAfterKill(from: SimulatedDisk | DiskMoment, options: SimulatedDiskOptions = {}): SimulatedDisk {
  return new SimulatedDisk(options, Tree.at(from instanceof SimulatedDisk ? from.moment() : from));
}

/** Files that exist on at least one of the disks. */
function reachableFiles(moment: DiskMoment): Set<FileNode> {
  const found = new Set<Node>();
  const visit = (node: Node | undefined): void => {
    if (node === undefined || found.has(node)) return;
    found.add(node);
    if (!node.directory) return;
    for (const child of moment.directories.get(node)?.values() ?? []) visit(child);
    for (const op of moment.entryOps)
      for (const change of op.changes) if (change.directory === node) visit(change.node);
  };
  visit(moment.root);
  return new Set([...found].filter((node) => !node.directory));
}

function build(moment: DiskMoment, choices: Choices): { readonly root: DirectoryNode; readonly key: string } {
  const tables = new Map<DirectoryNode, Map<string, Node>>();
  const table = (directory: DirectoryNode): Map<string, Node> => {
    let entries = tables.get(directory);
    if (entries === undefined) tables.set(directory, (entries = new Map(moment.directories.get(directory))));
    return entries;
  };
  const places = new Map<Node, { readonly directory: DirectoryNode; readonly name: string }>();
  for (const op of moment.entryOps) {
    if (!op.durable && !choices.entries.has(op.id)) continue;
    for (const { directory, name, node } of op.changes) {
      if (node === undefined) {
        table(directory).delete(name);
        continue;
      }
      // A file has one name: if an earlier rename of it was lost, this one removes the name that it still has.
      const old = places.get(node);
      if (old !== undefined && table(old.directory).get(old.name) === node) table(old.directory).delete(old.name);
      places.set(node, { directory, name });
      table(directory).set(name, node);
    }
  }
  const keys: string[] = [];
  const copy = (directory: DirectoryNode): DirectoryNode => {
    const entries = new Map<string, Node>();
    keys.push("(");
    for (const [name, node] of tables.get(directory) ?? moment.directories.get(directory) ?? []) {
      keys.push(name);
      entries.set(name, node.directory ? copy(node) : copyFile(moment, node, choices, keys));
    }
    keys.push(")");
    return new DirectoryNode(entries);
  };
  return { root: copy(moment.root), key: keys.join("/") };
}

function copyFile(moment: DiskMoment, file: FileNode, choices: Choices, keys: string[]): FileNode {
  const state = moment.files.get(file);
  if (state === undefined) return new FileNode(new Content());
  keys.push(`=${state.id}`);
  let content = state.durable;
  let ours = false;
  for (const op of state.ops) {
    const outcome = op.durable ? WHOLE : choices.files.get(op.id);
    if (outcome === undefined) continue;
    if (!ours) content = content.copy();
    ours = true;
    keys.push(outcome === WHOLE ? `${op.id}` : `${op.id}:${outcome.from}-${outcome.to}${outcome.extended ? "+" : ""}`);
    applyOutcome(content, op, outcome);
  }
  return new FileNode(content);
}

function tell(moment: DiskMoment, choices: Choices): string {
  const lines: string[] = [];
  for (const op of moment.entryOps) {
    if (!op.durable) lines.push(`${choices.entries.has(op.id) ? "done" : "NOT done"}: ${op.what}`);
  }
  for (const [path, node] of pathsOf(moment)) {
    for (const op of moment.files.get(node)?.ops ?? []) {
      if (op.durable) continue;
      const outcome = choices.files.get(op.id);
      const what = op.bytes === undefined ? `truncate to ${op.position}` : `write ${op.position}+${op.bytes.length}`;
      const part =
        outcome === undefined
          ? "NOT done"
          : outcome.to === outcome.from
            ? "done"
            : `without bytes ${outcome.from}–${outcome.to}${outcome.extended ? ", size extended" : ""}`;
      lines.push(`${part}: ${what} of ${path}`);
    }
  }
  return lines.join("\n");
}

/** Every file of a moment with the path that processes knew it by. */
function pathsOf(moment: DiskMoment): Map<string, FileNode> {
  const paths = new Map<string, FileNode>();
  const visit = (directory: DirectoryNode, path: string): void => {
    const entries = new Map(moment.directories.get(directory));
    for (const op of moment.entryOps) {
      for (const change of op.changes) {
        if (change.directory === directory && change.node !== undefined) entries.set(change.name, change.node);
      }
    }
    for (const [name, node] of entries) {
      if (node.directory) visit(node, `${path}/${name}`);
      else paths.set(`${path}/${name}`, node);
    }
  };
  visit(moment.root, "");
  return paths;
}
