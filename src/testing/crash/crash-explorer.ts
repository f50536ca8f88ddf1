import { type Known, Ledger } from "./crash-ledger.ts";
import { type Closeable, CrashError, type CrashReport, type CrashScenario, type CrashWorld } from "./crash-scenario.ts";
import { type DiskAfterPowerCut, disksAfterPowerCut } from "../disk/power-cut.ts";
import { seededRandom } from "../disk/random.ts";
import { SimulatedDisk } from "../disk/simulated-disk.ts";
import type { SimulatedProcess } from "../disk/simulated-process.ts";
import type { DiskMoment } from "../disk/simulated-tree.ts";

/** Disks per moment, at least. The first two hold all pending writes and none of them. */
const DISKS_PER_MOMENT = 8;
/** Disks made from one recovery that is cut off. */
const NESTED_DISKS = 6;
/** One in this many of them has its own recovery cut off, and this many disks are made from that. */
const NEST_TWICE_EVERY = 6;
const NESTED_TWICE_DISKS = 2;
/** A disk after a recovery that is cut off is chosen from this many. */
const NESTED_REACH = 12;

interface Moment extends Known {
  readonly where: string;
  readonly disk: DiskMoment;
}

/** A disk to examine. */
interface Case {
  /** Index of the moment and of the disk: of the workload, then of each recovery that was cut off. */
  readonly path: readonly number[];
  readonly left: DiskAfterPowerCut;
  readonly moment: Moment;
  /** The power cuts so far, human-readable. */
  readonly where: string;
  readonly killed: boolean;
}

/**
 * Runs a workload on a simulated disk and cuts the power before every change of the disk. Each cut leaves the disks that
 * a real one could leave: all of them if there are few, else a sample. On each disk, the store is opened and checked.
 * Some recoveries are cut off in the same way, and some recoveries after those. Throws a `CrashError` for the first disk
 * on which the check fails.
 */
export async function exploreCrashes<S extends Closeable>(scenario: CrashScenario<S>): Promise<CrashReport> {
  return new Exploration(scenario).run();
}

class Exploration<S extends Closeable> {
  readonly #scenario: CrashScenario<S>;
  readonly #seed: number | string;
  readonly #maxDisks: number;
  readonly #nestEvery: number;
  readonly #only: readonly number[] | undefined;
  readonly #seen = new Set<string>();
  readonly #count = { moments: 0, disks: 0, nested: 0, nestedTwice: 0, violations: 0 };
  #stopped = false;

  constructor(scenario: CrashScenario<S>) {
    this.#scenario = scenario;
    this.#seed = scenario.seed ?? 0;
    this.#maxDisks = scenario.maxDisks ?? 1000;
    this.#nestEvery = scenario.nestEvery ?? 20;
    this.#only = scenario.only?.split("/").map(Number);
  }

  async run(): Promise<CrashReport> {
    const moments = await this.#record();
    this.#count.moments = moments.length;
    const nestedDisks = NESTED_DISKS * (1 + NESTED_TWICE_DISKS / NEST_TWICE_EVERY);
    const disksForOne = this.#nestEvery === 0 ? 1 : 1 + nestedDisks / this.#nestEvery;
    const perMoment = Math.max(DISKS_PER_MOMENT, Math.ceil(this.#maxDisks / disksForOne / moments.length));
    // If `maxDisks` allows fewer disks: moments spread over the whole run.
    const stride = Math.max(1, (moments.length * perMoment * disksForOne) / this.#maxDisks);
    for (let at = 0; at < moments.length && !this.#stopped; at += stride) {
      const index = Math.floor(at);
      const moment = moments[index];
      if (moment === undefined || (this.#only !== undefined && this.#only[0] !== index)) continue;
      let number = -1;
      const disks = { maxDisks: perMoment, seed: `${this.#seed}/${index}`, disk: { record: false } };
      for (const left of disksAfterPowerCut(moment.disk, disks)) {
        number++;
        if (this.#only !== undefined && this.#only[1] !== number) continue;
        await this.#examine({ path: [index, number], left, moment, where: moment.where, killed: number === 1 });
        if (this.#stopped || this.#count.disks >= this.#maxDisks) return this.#count;
      }
    }
    return this.#count;
  }

  /** Runs the workload and returns the state of the disk before each change, and at the end. */
  async #record(): Promise<Moment[]> {
    const random = seededRandom(`${this.#seed}/latency`);
    const disk = new SimulatedDisk({ latency: () => random.below(4), record: false });
    this.#scenario.prepare?.(disk);
    const ledger = new Ledger("c");
    const moments = await watched(disk, ledger, async () => {
      try {
        const store = await this.#scenario.open(disk.process());
        await this.#scenario.workload(this.#world(disk, store, ledger));
      } catch (cause) {
        this.#violation(new CrashError("", this.#seed, "during the workload, before any power cut", undefined, cause));
      }
    });
    disk.cutPower();
    return moments;
  }

  #world(disk: SimulatedDisk, store: S, ledger: Ledger): CrashWorld<S> {
    const { open } = this.#scenario;
    return {
      disk,
      store,
      async open() {
        const process = disk.process();
        return { process, store: await open(process) };
      },
      commit: (action, events) => ledger.track(action, events ?? 1),
      commits: () => ledger.commits,
    };
  }

  /** Examines a disk, unless one with the same bytes and the same outcomes of commits has been examined before. */
  async #examine(disk: Case): Promise<void> {
    const { path, left, moment, where } = disk;
    const key = `${moment.commits.map(({ outcome }) => outcome[0]).join("")}${left.key}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#count.disks++;
    if (path.length > 2) this.#count.nested++;
    if (path.length > 4) this.#count.nestedTwice++;
    const nestedDisks = this.#nestedDisks(path);
    const name = path.join("/");
    const ledger = new Ledger(`g${name}-`, moment);
    let moments: readonly Moment[] = [];
    try {
      const work = async (): Promise<void> => this.#recoverAndCheck(disk, ledger, name);
      if (nestedDisks > 0) moments = await watched(left.disk, ledger, work);
      else await work();
    } catch (cause) {
      this.#violation(new CrashError(name, this.#seed, `after a power cut ${where}`, left.story(), cause));
      return;
    }
    const random = seededRandom(`${this.#seed}/${name}`);
    for (let n = 0; n < nestedDisks && moments.length > 0 && !this.#stopped; n++) {
      const index = this.#only?.[path.length] ?? random.below(moments.length);
      const number = this.#only?.[path.length + 1] ?? random.below(NESTED_REACH);
      const next = moments[index];
      if (next === undefined) continue;
      const nested = lastDisk(next.disk, number + 1, `${this.#seed}/${name}/${index}`);
      await this.#examine({
        path: [...path, index, number],
        left: nested,
        moment: next,
        where: `${where}, which left:\n${left.story()}\nand again, during recovery, ${next.where}`,
        killed: disk.killed && number === 1,
      });
    }
  }

  /** How many disks to make by cutting off the recovery of a disk. */
  #nestedDisks(path: readonly number[]): number {
    if (this.#only !== undefined) return this.#only.length > path.length ? 1 : 0;
    if (this.#nestEvery === 0) return 0;
    const { disks, nested, nestedTwice } = this.#count;
    if (path.length === 2) return (disks - nested) % this.#nestEvery === 0 ? NESTED_DISKS : 0;
    return path.length === 4 && (nested - nestedTwice) % NEST_TWICE_EVERY === 0 ? NESTED_TWICE_DISKS : 0;
  }

  async #recoverAndCheck({ left: { disk }, moment, killed }: Case, ledger: Ledger, name: string): Promise<void> {
    const { open, check, goOn } = this.#scenario;
    const remains = { disk, killed, begun: moment.commits.length };
    const process = disk.process();
    const store = await open(process);
    try {
      await ledger.see(check({ ...remains, store, commits: ledger.commits }));
      await goOn?.(this.#world(disk, store, ledger));
      // Half of the stores are closed and half are killed. Both are then opened again.
      if (seededRandom(name).below(2) === 0) await store.close();
    } finally {
      await abandon(process, store);
    }
    const again = disk.process();
    const reopened = await open(again);
    try {
      await ledger.see(check({ ...remains, store: reopened, commits: ledger.commits }));
    } finally {
      await abandon(again, reopened);
    }
  }

  #violation(error: CrashError): void {
    this.#count.violations++;
    if (this.#scenario.onViolation === undefined) throw error;
    if (this.#scenario.onViolation(error) === false) this.#stopped = true;
  }
}

/** Collects the moments of a disk during `work`. */
async function watched(disk: SimulatedDisk, known: Known, work: () => Promise<void>): Promise<Moment[]> {
  const moments: Moment[] = [];
  const note = (where: string): void => {
    moments.push({ where, disk: disk.moment(), commits: known.commits, seen: known.seen });
  };
  disk.onStep = (operation, path) => note(`before step ${moments.length}, ${operation} of ${path}`);
  try {
    await work();
    note("at the end");
    return moments;
  } finally {
    disk.onStep = undefined;
  }
}

/** The disk with this number, from 1, that a power cut at a moment can leave; the last one if there are fewer. */
function lastDisk(moment: DiskMoment, count: number, seed: string): DiskAfterPowerCut {
  const disks = [...disksAfterPowerCut(moment, { maxDisks: count, seed, disk: { record: false } })];
  const last = disks.at(-1);
  if (last === undefined) throw new Error("expected at least one disk after a power cut, found none");
  return last;
}

/** Kills a process, and closes its store to clear its timers: they would keep it in memory for minutes. */
async function abandon(process: SimulatedProcess, store: Closeable): Promise<void> {
  process.kill();
  await store.close().catch(() => {});
}
