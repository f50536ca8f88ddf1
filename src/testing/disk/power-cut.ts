import { Content } from "./simulated-content.ts";
import { SimulatedDisk, type SimulatedDiskOptions } from "./simulated-disk.ts";
import {
  applyFileOp,
  DirectoryNode,
  type DiskMoment,
  type EntryOp,
  FileNode,
  type FileOp,
  type Node,
  Tree,
} from "./simulated-tree.ts";
import { type Random, seededRandom } from "./random.ts";

const SECTOR = 512;

export interface PowerCutOptions {
  /** All disks if there are no more than this many, else this many of them; 100 if left out. */
  readonly maxDisks?: number;
  readonly seed?: number | string;
  /** For the disks that are made. */
  readonly disk?: SimulatedDiskOptions;
}

/** A disk as a power cut may leave it. */
export interface DiskAfterPowerCut {
  readonly disk: SimulatedDisk;
  /** What became of each thing that was not certain, for people. */
  readonly story: () => string;
  /** Two disks with the same key are the same. */
  readonly key: string;
}

/** What reached the medium of a write: all but the bytes from `from` to `to`; `extended` when the file's size did all the same. */
interface Outcome {
  readonly from: number;
  readonly to: number;
  readonly extended: boolean;
}

/** Nothing of it. */
const ABSENT = undefined;
const WHOLE: Outcome = { from: 0, to: 0, extended: true };

interface Choices {
  readonly entries: ReadonlySet<number>;
  readonly files: ReadonlyMap<number, Outcome | undefined>;
}

/**
 * The disks that a power cut at a moment can leave: what was flushed is there; of the rest any subset,
 * each write whole, cut at a sector or byte, with a hole, or as mere room filled with zeros; each unsynced change of a directory
 * made or not. The first is what is certain and nothing else, the second everything.
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
 * The disk that goes on when all processes are killed at a moment: everything that they wrote can be read,
 * and what was not certain still is not. Locks are free.
 */
export function diskAfterKill(from: SimulatedDisk | DiskMoment, options: SimulatedDiskOptions = {}): SimulatedDisk {
  return new SimulatedDisk(options, Tree.at(from instanceof SimulatedDisk ? from.moment() : from));
}

/** Files that are there on at least one of the disks. */
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

function* choose(
  entryOps: readonly EntryOp[],
  fileOps: readonly FileOp[],
  maxDisks: number,
  random: Random,
): Generator<Choices> {
  const outcomes = fileOps.map((op) => outcomesOf(op));
  const sizes = [...entryOps.map(() => 2), ...outcomes.map((list) => list.length)];
  const total = sizes.reduce((product, size) => Math.min(product * size, Number.MAX_SAFE_INTEGER), 1);
  const choices = (digit: (index: number) => number): Choices => ({
    entries: new Set(entryOps.filter((_, i) => digit(i) === 1).map(({ id }) => id)),
    files: new Map(fileOps.map(({ id }, i) => [id, outcomes[i]?.[digit(entryOps.length + i)]])),
  });
  yield choices(() => 0);
  yield choices(() => 1);
  if (total <= maxDisks) {
    for (let n = 0; n < total; n++) {
      let rest = n;
      const digits = sizes.map((size) => {
        const digit = rest % size;
        rest = Math.floor(rest / size);
        return digit;
      });
      yield choices((i) => digits[i] ?? 0);
    }
    return;
  }
  // One thing missing from everything, one thing there and nothing else, and mixtures of all kinds. The generator's owner stops it.
  for (let tries = 0; tries < maxDisks * 4; tries++) {
    const mode = random.below(8);
    if (mode < 2) {
      const odd = random.below(sizes.length);
      const digit = mode === 0 ? 0 : random.below(sizes[odd] ?? 2);
      yield choices((i) => (i === odd ? digit : 1 - (mode === 1 && digit === 1 ? 1 : 0)));
      continue;
    }
    const entriesThere = [0.1, 0.5, 0.9, 1][random.below(4)] ?? 1;
    const writesThere = [0.1, 0.5, 0.9, 1][random.below(4)] ?? 1;
    const torn = [0, 0.2, 0.7][random.below(3)] ?? 0;
    const entries = new Set(entryOps.filter(() => random.next() < entriesThere).map(({ id }) => id));
    const files = new Map<number, Outcome | undefined>();
    for (const op of fileOps) {
      const whole = random.next() >= torn;
      files.set(op.id, random.next() >= writesThere ? ABSENT : whole ? WHOLE : tornOutcome(op, random));
    }
    yield { entries, files };
  }
}

/** Absent, whole, and a choice of everything between. */
function outcomesOf(op: FileOp): (Outcome | undefined)[] {
  if (op.bytes === undefined) return [ABSENT, WHOLE];
  const length = op.bytes.length;
  const outcomes: (Outcome | undefined)[] = [ABSENT, WHOLE, { from: 0, to: length, extended: true }];
  const cuts = new Set<number>([1, length >> 1, length - 1]);
  for (let at = SECTOR - (op.position % SECTOR); at < length && cuts.size < 8; at += SECTOR) cuts.add(at);
  for (const cut of cuts) {
    if (cut <= 0 || cut >= length) continue;
    outcomes.push({ from: cut, to: length, extended: false }, { from: 0, to: cut, extended: true });
  }
  return outcomes;
}

function tornOutcome(op: FileOp, random: Random): Outcome {
  const length = op.bytes?.length ?? 0;
  if (length < 2) return WHOLE;
  const place = (): number => {
    if (random.below(2) === 0) return random.below(length + 1);
    const sectors = Math.ceil(length / SECTOR) + 1;
    return Math.max(0, Math.min(length, random.below(sectors) * SECTOR - (op.position % SECTOR)));
  };
  const kind = random.below(5);
  if (kind === 0) return { from: 0, to: length, extended: true };
  if (kind === 1) return { from: place(), to: length, extended: true };
  const a = place();
  if (kind < 4) return { from: a, to: length, extended: false };
  const b = place();
  return { from: Math.min(a, b), to: Math.max(a, b), extended: true };
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
      // A thing has one name: a rename whose predecessor was lost takes it away from wherever it is.
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

function applyOutcome(content: Content, op: FileOp, { from, to, extended }: Outcome): void {
  if (op.bytes === undefined || to === from) {
    applyFileOp(content, op);
    return;
  }
  content.write(op.bytes.subarray(0, from), op.position);
  content.write(op.bytes.subarray(to), op.position + to);
  const end = op.position + op.bytes.length;
  if (extended && content.size < end) content.resize(end);
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
