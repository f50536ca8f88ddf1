import { type Random } from "./random.ts";
import type { Content } from "./simulated-content.ts";
import { applyFileOp, type FileOp } from "./simulated-file.ts";
import type { EntryOp } from "./simulated-tree.ts";

const SECTOR = 512;

/** How much of a write reached the medium: all but the bytes from `from` to `to`. */
export interface Outcome {
  readonly from: number;
  readonly to: number;
  /** Whether the file has its new size although bytes at its end are missing. */
  readonly extended: boolean;
}

/** Nothing of the write reached the medium. */
const ABSENT = undefined;
export const WHOLE: Outcome = { from: 0, to: 0, extended: true };

/** One combination of outcomes: which of the pending operations reached the medium. */
export interface Choices {
  /** Ids of the changes of directory entries that reached the medium. */
  readonly entries: ReadonlySet<number>;
  /** By the id of the write or truncation; `undefined` if nothing of it did. */
  readonly files: ReadonlyMap<number, Outcome | undefined>;
}

/**
 * First nothing, then everything; then all combinations if there are at most `maxDisks`, else sampled ones. May repeat
 * itself; the caller stops it.
 */
export function* choose(
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
  // Everything but one operation, one operation and nothing else, and mixtures of all kinds.
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

/** Absent, whole, and some torn writes between. */
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

/** A random torn write: cut at a sector or at a byte, with a hole, or only the size extended. */
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

/** Applies the part of an operation that reached the medium. */
export function applyOutcome(content: Content, op: FileOp, { from, to, extended }: Outcome): void {
  if (op.bytes === undefined || to === from) {
    applyFileOp(content, op);
    return;
  }
  content.write(op.bytes.subarray(0, from), op.position);
  content.write(op.bytes.subarray(to), op.position + to);
  const end = op.position + op.bytes.length;
  if (extended && content.size < end) content.resize(end);
}
