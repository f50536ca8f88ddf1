import type { FileSystem } from "../fs/file-system.ts";
import { type DiskAfterPowerCut, disksAfterPowerCut } from "./power-cut.ts";
import { seededRandom } from "./random.ts";
import { SimulatedDisk } from "./simulated-disk.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { DiskMoment } from "./simulated-tree.ts";

/** A commit that a scenario has asked for. */
export interface TrackedCommit {
  /** Its correlation id: unique, and on every event of it. */
  readonly id: string;
  /** How many events it has. */
  readonly events: number;
  /** `"failed"` after an error: whether it counts is open only if the power is cut before the next acknowledgement. */
  readonly outcome: "pending" | "acknowledged" | "failed";
  /** What the store answered. */
  readonly result?: unknown;
}

export interface Closeable {
  close(): Promise<void>;
}

/** What a scenario works with. */
export interface CrashWorld<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** Opens the store once more, as another process or again after `store.close()`; it can be killed. */
  open(): Promise<{ readonly store: S; readonly process: SimulatedProcess }>;
  /**
   * Runs something that makes one commit of `events` events (1 if left out) with the context that it is given, and notes when
   * it is acknowledged. An error is noted and thrown.
   */
  commit<T>(action: (context: { readonly correlationId: string }) => Promise<T>, events?: number): Promise<T>;
  /** The commits so far. */
  commits(): readonly TrackedCommit[];
}

/** What a check looks at: a store that was opened on what a crash left. */
export interface CrashRemains<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** The commits up to the crash, in the order in which they were begun. */
  readonly commits: readonly TrackedCommit[];
  /** Nothing that was written is missing: as if only the process had been killed. */
  readonly killed: boolean;
}

export interface CrashScenario<S extends Closeable> {
  /** Opens what is examined; for every crash again, so recovery belongs to it. */
  readonly open: (fileSystem: FileSystem) => Promise<S>;
  /** What is going on when the power is cut. */
  readonly workload: (world: CrashWorld<S>) => Promise<void>;
  /** Throws when something is wrong. May give a list of what is there (`checkInvariants` does): what was seen once must be there for ever. */
  readonly check: (remains: CrashRemains<S>) => Promise<readonly string[] | void>;
  /** What is done after a recovery, to see that the store works on; then it is opened and checked again. */
  readonly goOn?: (world: CrashWorld<S>) => Promise<void>;
  /** The same seed gives the same disks; 0 if left out. */
  readonly seed?: number | string;
  /** Stop after this many disks; 1,000 if left out. */
  readonly maxDisks?: number;
  /** Out of how many disks one recovery is itself cut off; 20 if left out, 0 for never. */
  readonly nestEvery?: number;
  /** Prepares the disk before the workload: faults, for example. */
  readonly prepare?: (disk: SimulatedDisk) => void;
  /** Only this disk, as a `CrashError` names it. */
  readonly only?: string;
  /** Gets what is wrong, instead of an exception for the first; the exploration ends when it returns false. */
  readonly onViolation?: (error: CrashError) => boolean | void;
}

export interface CrashReport {
  /** Moments at which the power was cut. */
  readonly moments: number;
  /** Disks examined, those of interrupted recoveries included. */
  readonly disks: number;
  /** Disks of recoveries that were cut off. */
  readonly nested: number;
  readonly violations: number;
}

/** A disk on which something is wrong. */
export class CrashError extends Error {
  override readonly name = "CrashError";
  /** Pass it as `only`, with the same seed, to see this disk alone. */
  readonly only: string;

  constructor(only: string, seed: number | string, where: string, story: string, cause: unknown) {
    super(
      `${cause instanceof Error ? cause.message : String(cause)}\n` +
        `after a power cut ${where} (seed: ${JSON.stringify(seed)}, only: ${JSON.stringify(only)}) that left:\n${story}`,
      { cause },
    );
    this.only = only;
  }
}

interface Moment {
  readonly where: string;
  readonly moment: DiskMoment;
  readonly commits: readonly TrackedCommit[];
  /** What a check has seen before. */
  readonly seen: readonly string[];
}

/**
 * Runs a workload on a simulated disk and cuts the power at every change of the disk, in every way (when there are few, else in
 * sampled ways) that a real disk allows; opens the store on what is left and checks it. Throws a `CrashError` for the first
 * disk on which the check fails.
 */
export async function exploreCrashes<S extends Closeable>(scenario: CrashScenario<S>): Promise<CrashReport> {
  return new Exploration(scenario).run();
}

class Exploration<S extends Closeable> {
  readonly #scenario: CrashScenario<S>;
  readonly #seed: number | string;
  readonly #maxDisks: number;
  readonly #nestEvery: number;
  readonly #seen = new Set<string>();
  #moments = 0;
  #disks = 0;
  #nested = 0;
  #violations = 0;
  #stopped = false;

  constructor(scenario: CrashScenario<S>) {
    this.#scenario = scenario;
    this.#seed = scenario.seed ?? 0;
    this.#maxDisks = scenario.maxDisks ?? 1000;
    this.#nestEvery = scenario.nestEvery ?? 20;
  }

  async run(): Promise<CrashReport> {
    const moments = await this.#record();
    this.#moments = moments.length;
    const nestedShare = this.#nestEvery === 0 ? 1 : 1 + NESTED_DISKS / this.#nestEvery;
    const perMoment = Math.max(DISKS_PER_MOMENT, Math.ceil(this.#maxDisks / nestedShare / moments.length));
    const [onlyMoment, onlyDisk, onlyNested] = (this.#scenario.only ?? "").split("/").map(Number);
    // With room for fewer disks: moments spread over the whole run.
    const stride = Math.max(1, (moments.length * perMoment * nestedShare) / this.#maxDisks);
    for (let at = 0; at < moments.length && !this.#stopped; at += stride) {
      const index = Math.floor(at);
      const moment = moments[index];
      if (moment === undefined || (this.#scenario.only !== undefined && index !== onlyMoment)) continue;
      let number = -1;
      for (const left of disksAfterPowerCut(moment.moment, {
        maxDisks: perMoment,
        seed: `${this.#seed}/${index}`,
        disk: { record: false },
      })) {
        number++;
        if (this.#scenario.only !== undefined && number !== onlyDisk) continue;
        // The same bytes and the same promises have been examined at an earlier moment.
        const key = `${moment.commits.map(({ outcome }) => outcome[0]).join("")}${left.key}`;
        if (this.#seen.has(key)) continue;
        this.#seen.add(key);
        const name = `${index}/${number}`;
        const nest =
          this.#scenario.only === undefined
            ? this.#nestEvery > 0 && this.#seen.size % this.#nestEvery === 0
            : onlyNested !== undefined;
        await this.#examine(name, left, moment, nest, number === 1);
        if (this.#stopped || this.#disks >= this.#maxDisks) return this.#report();
      }
    }
    return this.#report();
  }

  #report(): CrashReport {
    return { moments: this.#moments, disks: this.#disks, nested: this.#nested, violations: this.#violations };
  }

  /** Runs the workload; gives the state of the disk before each change of it, and at the end. */
  async #record(): Promise<Moment[]> {
    const random = seededRandom(`${this.#seed}/latency`);
    const disk = new SimulatedDisk({ latency: () => random.below(4), record: this.#scenario.prepare !== undefined });
    this.#scenario.prepare?.(disk);
    const ledger = new Ledger("c");
    const moments = await this.#watched(disk, ledger, async () => {
      try {
        const store = await this.#scenario.open(disk.process());
        await this.#scenario.workload(this.#world(disk, store, ledger));
      } catch (cause) {
        this.#violation(new CrashError("", this.#seed, "that did not happen", "the workload failed", cause));
      }
    });
    disk.cutPower();
    return moments;
  }

  /** Collects the moments of what `work` does to a disk. */
  async #watched(disk: SimulatedDisk, ledger: Ledger, work: () => Promise<void>): Promise<Moment[]> {
    const moments: Moment[] = [];
    const note = (where: string): void => {
      moments.push({ where, moment: disk.moment(), commits: ledger.commits, seen: ledger.seen });
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

  async #examine(
    name: string,
    { disk, story }: DiskAfterPowerCut,
    from: Moment,
    nest: boolean,
    killed: boolean,
  ): Promise<void> {
    this.#disks++;
    const ledger = new Ledger(`g${name}-`, from);
    let moments: Moment[] = [];
    const work = async (): Promise<void> => this.#recoverAndCheck(disk, ledger, name, killed);
    try {
      if (nest) moments = await this.#watched(disk, ledger, work);
      else await work();
    } catch (cause) {
      this.#violation(new CrashError(name, this.#seed, from.where, story(), cause));
      return;
    }
    if (nest)
      await this.#nestedIn(name, moments, `${from.where}, which left:\n${story()}\nand again, during recovery,`);
  }

  async #nestedIn(name: string, moments: readonly Moment[], before: string): Promise<void> {
    const random = seededRandom(`${this.#seed}/${name}`);
    const [, , , onlyMoment, onlyDisk] = (this.#scenario.only ?? "").split("/").map(Number);
    for (let n = 0; n < NESTED_DISKS && moments.length > 0; n++) {
      const index = random.below(moments.length);
      const moment = moments[index];
      if (moment === undefined) continue;
      const wanted = random.below(12);
      let number = -1;
      for (const left of disksAfterPowerCut(moment.moment, {
        maxDisks: wanted + 1,
        seed: `${this.#seed}/${name}/${index}`,
        disk: { record: false },
      })) {
        number++;
        if (number < wanted) continue;
        const nestedName = `${name}/n/${index}/${number}`;
        if (this.#scenario.only !== undefined && (index !== onlyMoment || number !== onlyDisk)) break;
        const key = `${moment.commits.map(({ outcome }) => outcome[0]).join("")}${left.key}`;
        if (this.#seen.has(key)) break;
        this.#seen.add(key);
        this.#disks++;
        this.#nested++;
        try {
          await this.#recoverAndCheck(left.disk, new Ledger(`h${nestedName}-`, moment), nestedName, false);
        } catch (cause) {
          const where = `${before} ${moment.where}`;
          this.#violation(new CrashError(nestedName, this.#seed, where, left.story(), cause));
          return;
        }
      }
    }
  }

  async #recoverAndCheck(disk: SimulatedDisk, ledger: Ledger, name: string, killed: boolean): Promise<void> {
    const { open, check, goOn } = this.#scenario;
    const process = disk.process();
    const store = await open(process);
    try {
      await ledger.see(check({ disk, store, commits: ledger.commits, killed }));
      await goOn?.(this.#world(disk, store, ledger));
    } catch (error) {
      process.kill();
      throw error;
    }
    // Half of the stores are closed, half are killed; both are opened once more.
    if (seededRandom(name).below(2) === 0) await store.close();
    else process.kill();
    const again = disk.process();
    const reopened = await open(again);
    try {
      await ledger.see(check({ disk, store: reopened, commits: ledger.commits, killed }));
    } finally {
      again.kill();
    }
  }

  #violation(error: CrashError): void {
    this.#violations++;
    if (this.#scenario.onViolation === undefined) throw error;
    if (this.#scenario.onViolation(error) === false) this.#stopped = true;
  }
}

/** Fewer would be nothing but "all of it" and "none of it". */
const DISKS_PER_MOMENT = 8;
/** Disks that are made of one recovery that is cut off. */
const NESTED_DISKS = 6;

/** The commits of one run. The list is replaced, never changed. */
class Ledger {
  commits: readonly TrackedCommit[] = [];
  seen: readonly string[] = [];
  readonly #prefix: string;
  #count = 0;

  constructor(prefix: string, before?: Moment) {
    this.#prefix = prefix;
    if (before === undefined) return;
    // What was under way when the power was cut stays open.
    this.commits = before.commits;
    this.seen = before.seen;
  }

  async see(check: Promise<readonly string[] | void>): Promise<void> {
    const found = await check;
    if (found === undefined) return;
    for (const [i, line] of this.seen.entries()) {
      if (found[i] !== line) throw new Error(`${line} was there before; now it is ${found[i] ?? "gone"}`);
    }
    this.seen = found;
  }

  async track<T>(action: (context: { readonly correlationId: string }) => Promise<T>, events: number): Promise<T> {
    const id = `${this.#prefix}${++this.#count}`;
    const index = this.commits.length;
    this.commits = [...this.commits, { id, events, outcome: "pending" }];
    try {
      const result = await action({ correlationId: id });
      this.#settle(index, { id, events, outcome: "acknowledged", result });
      return result;
    } catch (error) {
      this.#settle(index, { id, events, outcome: "failed" });
      throw error;
    }
  }

  #settle(index: number, commit: TrackedCommit): void {
    this.commits = this.commits.map((other, i) => (i === index ? commit : other));
  }
}
