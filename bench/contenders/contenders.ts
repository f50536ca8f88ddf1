import type { Bank } from "./bank.ts";
import { isInstalled } from "./peer.ts";

export interface Contender {
  /** As the tables call it. */
  readonly title: string;
  /** Packages that it needs. */
  readonly packages: readonly string[];
  readonly open: (directory: string) => Promise<Bank>;
  /** A command takes many milliseconds, so it gets a share of the work only, and one round. */
  readonly slow?: boolean;
  /** False if a quick run leaves it out. */
  readonly quick?: boolean;
}

/** A contender's module is loaded where it is measured only. */
const CONTENDERS = {
  ours: {
    title: "eventfold-es",
    packages: [],
    open: async (directory) => (await import("./ours.ts")).openOurs({ directory, durability: "flush" }),
  },
  "ours-os": {
    title: 'eventfold-es, durability "os"',
    packages: [],
    open: async (directory) => (await import("./ours.ts")).openOurs({ directory, durability: "os" }),
  },
  "ours-memory": {
    title: "eventfold-es in memory",
    packages: [],
    open: async () => (await import("./ours.ts")).openOurs("memory"),
  },
  sqlite: {
    title: "better-sqlite3 by hand, WAL, FULL",
    packages: ["better-sqlite3"],
    open: async (directory) => (await import("./better-sqlite3.ts")).openBetterSqlite3(directory),
  },
  lmdb: {
    title: "lmdb by hand",
    packages: ["lmdb"],
    open: async (directory) => (await import("./lmdb.ts")).openLmdb(directory),
  },
  evtstore: {
    title: "evtstore, better-sqlite3, WAL, FULL",
    packages: ["evtstore", "knex", "better-sqlite3"],
    open: async (directory) => (await import("./evtstore.ts")).openEvtstore(directory),
    quick: false,
  },
  act: {
    title: "act, act-sqlite",
    packages: ["@rotorsoft/act", "@rotorsoft/act-sqlite", "zod"],
    open: async (directory) => (await import("./act.ts")).openAct(directory),
    quick: false,
  },
  emmett: {
    title: "emmett-sqlite",
    packages: ["@event-driven-io/emmett", "@event-driven-io/emmett-sqlite", "sqlite3"],
    open: async (directory) => (await import("./emmett.ts")).openEmmett(directory),
    slow: true,
    quick: false,
  },
} as const satisfies Record<string, Contender>;

export type ContenderName = keyof typeof CONTENDERS;

/** Everything durable that is not ours. */
export const PEERS: readonly ContenderName[] = ["sqlite", "lmdb", "evtstore", "act", "emmett"];

export function contender(name: ContenderName): Contender {
  return CONTENDERS[name];
}

/** The packages that are missing for a contender. */
export function missing(name: ContenderName): string[] {
  return contender(name).packages.filter((wanted) => !isInstalled(wanted));
}
