import { afterEach, describe, expect, test, vi } from "vitest";
import type { Snapshot } from "eventfold-es";
import { CrashError, type CrashScenario, exploreCrashes, type FileHandle, type FileSystem } from "eventfold-es/testing";
import type * as placeModule from "../../src/jetstream/replica/place.ts";
import type * as openReplicaModule from "../../src/file-store/open-replica.ts";
import type * as decidedCommandsModule from "../../src/aggregate/instance/decided-commands.ts";
import type * as tracedCommitModule from "../../src/event-store/traced-commit.ts";
import type * as keptProgressModule from "../../src/process-manager/kept-progress.ts";
import type * as managerLettersModule from "../../src/process-manager/manager-letters.ts";
import type * as applierModule from "../../src/file-store/apply/applier.ts";
import type * as unsettledModule from "../../src/file-store/apply/unsettled-streams.ts";
import type { UnsettledStreamsParts } from "../../src/file-store/apply/unsettled-streams.ts";
import type * as dirtyFilesModule from "../../src/file-store/apply/dirty-files.ts";
import type * as followerModule from "../../src/file-store/apply/log-follower.ts";
import type * as copyLogModule from "../../src/file-store/copy/copy-log.ts";
import type * as cutPointModule from "../../src/file-store/copy/cut-point.ts";
import type * as copyMarkerModule from "../../src/file-store/recovery/copy-marker.ts";
import type * as lineMovesModule from "../../src/file-store/apply/line-moves.ts";
import type * as markerModule from "../../src/file-store/recovery/marker.ts";
import type * as scheduledCommandsModule from "../../src/process-manager/scheduled-commands.ts";
import type * as cutsModule from "../../src/file-store/streams/cuts.ts";
import type * as segmentWriterModule from "../../src/file-store/reclaim/segment-writer.ts";
import type * as sectionsModule from "../../src/file-store/log/record-sections.ts";
import type * as subscriptionLettersModule from "../../src/subscription/subscription-letters.ts";
import type * as commitLogModule from "../../src/file-store/log/commit-log.ts";
import type { CommitObserver, CommittedRecord } from "../../src/file-store/log/committed-record.ts";
import { readRecord } from "../../src/file-store/log/record-format.ts";
import type * as deadLetterFilesModule from "../../src/file-store/progress/dead-letter-files.ts";
import type * as handlerProgressModule from "../../src/process-manager/handler-progress.ts";
import type { NoteSection, Section } from "../../src/file-store/log/record-sections.ts";
import { readSections } from "../../src/file-store/log/record-sections.ts";
import type * as commitRecordModule from "../../src/file-store/log/record-format.ts";
import type * as eventLineModule from "../../src/file-store/lines/event-line.ts";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import type { StreamFiles } from "../../src/file-store/streams/stream-files.ts";
import type * as exportStoreModule from "../../src/transfer/export-store.ts";
import type * as importStoreModule from "../../src/transfer/import-store.ts";
import type * as keyFileModule from "../../src/file-store/keys/key-file.ts";
import type * as forgottenKeysModule from "../../src/personal/forgotten-keys.ts";
import type * as personalCachesModule from "../../src/personal/personal-caches.ts";
import type * as knownNotesModule from "../../src/transfer/known-notes.ts";
import { breakFileSystem, type BrokenFile, uselessLock } from "../support/broken-file-system.ts";
import { openLog } from "../support/crash-stores.ts";
import { WORKLOADS } from "../support/crash-workloads.ts";

/** How many disks it may take to find a breakage; the unbroken store must pass as many. */
const DISKS = 200;

/** A kind of workload, and a seed for which that many disks suffice. */
interface Place {
  readonly kind: string;
  /** Default: 5. */
  readonly seed?: number;
}

function scenario({ kind, seed = 5 }: Place, workloads = WORKLOADS): CrashScenario<FileEventStore> {
  const found = workloads.find((workload) => workload.kind === kind);
  if (found === undefined) throw new RangeError(`no workload "${kind}"`);
  return { ...(found.scenario(seed) as unknown as CrashScenario<FileEventStore>), seed, maxDisks: DISKS };
}

const onFiles = (file: BrokenFile) => (fileSystem: FileSystem) => breakFileSystem(fileSystem, {}, file);
const nothing = async (): Promise<void> => {};
const isLog = (path: string): boolean => path.includes("/commit_log");
const isCopy = (path: string): boolean => path.startsWith("/copy/commit_log");
const isStream = (path: string): boolean => path.endsWith("/app.jsonl");

const isKeys = (path: string): boolean => path.includes("/keys/");

interface Breakage extends Place {
  readonly what: string;
  readonly broken: (fileSystem: FileSystem) => FileSystem;
}

type VerdictArguments = Parameters<InstanceType<typeof decidedCommandsModule.DecidedCommands>["addRememberedVerdict"]>;
type NoteArguments = [note: { readonly passed?: number }, letters: object];
type CommitNoteArguments = Parameters<keptProgressModule.KeptProgress["commitNote"]>;

const BREAKAGES: readonly Breakage[] = [
  {
    what: "a durable write is a plain one",
    kind: "new log segments",
    broken: onFiles((file) => ({
      writeDurably: (buffer, ...place) => file.write(buffer, place[0], place[1], place[2]),
    })),
  },
  {
    what: "a durable write flushes its first sector only",
    kind: "new log segments",
    broken: onFiles((file) => ({
      async writeDurably(buffer, offset, length, position) {
        const first = Math.min(length, 512);
        if (length > first) file.write(buffer, offset + first, length - first, position + first);
        await file.writeDurably(buffer, offset, first, position);
      },
    })),
  },
  {
    what: "keys of persons are not flushed",
    kind: "persons are forgotten",
    seed: 1,
    broken: onFiles((file) => (isKeys(file.path) ? { flush: nothing } : {})),
  },
  {
    what: "the file of the keys gets its name before its bytes",
    kind: "persons are forgotten",
    seed: 1,
    broken: onFiles((file) => (file.path.endsWith("subjects.jsonl.tmp") ? { flush: nothing } : {})),
  },
  {
    what: "the log is written after the streams",
    kind: "close and reopen",
    broken: onFiles((file) => ({
      async writeDurably(buffer, offset, length, position) {
        const bytes = new Uint8Array(buffer.subarray(offset, offset + length));
        setImmediate(() => void Promise.resolve(file.writeDurably(bytes, 0, length, position)).catch(() => {}));
      },
    })),
  },
  {
    what: "the streams are written before the log",
    kind: "new log segments",
    broken: (fileSystem) =>
      breakFileSystem(fileSystem, {}, (file) => ({
        async writeDurably(buffer, offset, length, position) {
          writeStreams(fileSystem, buffer.subarray(offset, offset + length));
          await file.writeDurably(buffer, offset, length, position);
        },
      })),
  },
  { what: "a flush does nothing", kind: "close and reopen", broken: onFiles(() => ({ flush: nothing })) },
  {
    what: "a flush of a stream does nothing",
    kind: "new log segments",
    broken: onFiles((file) => (isStream(file.path) ? { flush: nothing } : {})),
  },
  {
    what: "a flush of the log does nothing",
    kind: 'durability "os"',
    broken: onFiles((file) => (isLog(file.path) ? { flush: nothing } : {})),
  },
  {
    what: "syncing a directory does nothing",
    kind: "new log segments",
    broken: (fileSystem) => breakFileSystem(fileSystem, { syncDirectory: nothing }),
  },
  {
    what: "syncing the streams' directories does nothing",
    kind: "close and reopen",
    broken: (fileSystem) =>
      breakFileSystem(fileSystem, {
        syncDirectory: async (path) => {
          if (!path.includes("/streams")) await fileSystem.syncDirectory(path);
        },
      }),
  },
  {
    what: "a flush of a compressed segment does nothing",
    kind: "dropped events are reclaimed",
    broken: onFiles((file) => (file.path.endsWith(".gz.tmp") ? { flush: nothing } : {})),
  },
  {
    what: "a segment is removed before the name of the compressed one is durable",
    kind: "dropped events are reclaimed",
    broken: (fileSystem) =>
      breakFileSystem(fileSystem, {
        syncDirectory: async (path) => {
          if (!path.endsWith("/commit_log")) await fileSystem.syncDirectory(path);
        },
      }),
  },
  {
    what: "a flush of a copy of the log does nothing",
    kind: "backups beside commits",
    broken: onFiles((file) => (isCopy(file.path) ? { flush: nothing } : {})),
  },
  {
    what: "syncing the directories of a copy does nothing",
    kind: "backups beside commits",
    broken: (fileSystem) =>
      breakFileSystem(fileSystem, {
        syncDirectory: async (path) => {
          if (!path.startsWith("/copy")) await fileSystem.syncDirectory(path);
        },
      }),
  },
  { what: "truncating does nothing", kind: "new log segments", broken: onFiles(() => ({ truncate: () => {} })) },
  {
    what: "a short write counts as a whole one",
    kind: "new log segments",
    broken: onFiles((file) => ({
      write: (buffer, offset, length, position) => file.write(buffer, offset, Math.min(length, 300), position),
    })),
  },
  {
    what: "renaming copies",
    kind: "a process manager and a projection",
    seed: 2,
    broken: (fileSystem) => breakFileSystem(fileSystem, { rename: (from, to) => copyThenRemove(fileSystem, from, to) }),
  },
  {
    what: "the lock excludes no process",
    kind: "two processes",
    broken: (fileSystem) => {
      const held = { count: 0 };
      return breakFileSystem(fileSystem, { openLock: (path) => uselessLock(fileSystem.openLock(path), held) });
    },
  },
];

/** Writes the lines of a log's record to those streams' files that exist. */
function writeStreams(fileSystem: FileSystem, record: Uint8Array): void {
  const bytes = Buffer.from(record);
  const read = readRecord(bytes, 0, bytes.length, 0);
  if (read.kind !== "record") return;
  readSections(bytes, read.header, 0, ({ key, start, end, at }) => {
    const path = `/store/streams/${key}/app.jsonl`;
    if (fileSystem.stat(path) === undefined) return;
    const file: FileHandle = fileSystem.open(path, "update");
    file.write(bytes, start, end - start, at);
    file.close();
  });
}

function copyThenRemove(fileSystem: FileSystem, from: string, to: string): void {
  if (fileSystem.stat(from)?.directory === true) {
    fileSystem.makeDirectory(to);
    for (const { name } of fileSystem.readDirectory(from))
      copyThenRemove(fileSystem, `${from}/${name}`, `${to}/${name}`);
  } else {
    const source = fileSystem.open(from, "read");
    const target = fileSystem.open(to, "create");
    const bytes = new Uint8Array(source.size());
    source.read(bytes, 0, bytes.length, 0);
    target.truncate(0);
    target.write(bytes, 0, bytes.length, 0);
    source.close();
    target.close();
  }
  fileSystem.remove(from);
}

/** A module of the engine with one step omitted or wrong. */
interface Mutation extends Place {
  readonly what: string;
  readonly module: string;
  readonly mutate: (original: never) => object;
}

const LOG = "../../src/file-store/log/commit-log.ts";
const RECORD = "../../src/file-store/log/record-format.ts";
const APPLIER = "../../src/file-store/apply/applier.ts";
const DIRTY_FILES = "../../src/file-store/apply/dirty-files.ts";
const FOLLOWER = "../../src/file-store/apply/log-follower.ts";
const FOREIGN_TAIL = "../../src/file-store/apply/foreign-tail.ts";
const COPY_LOG = "../../src/file-store/copy/copy-log.ts";
const COPY_MARKER = "../../src/file-store/recovery/copy-marker.ts";
const CUT_POINT = "../../src/file-store/copy/cut-point.ts";
const MARKER = "../../src/file-store/recovery/marker.ts";
const EXPORT_STORE = "../../src/transfer/export-store.ts";
const IMPORT_STORE = "../../src/transfer/import-store.ts";
const KNOWN_NOTES = "../../src/transfer/known-notes.ts";
const CUTS = "../../src/file-store/streams/cuts.ts";
const DEAD_LETTER_FILES = "../../src/file-store/progress/dead-letter-files.ts";
const UNSETTLED = "../../src/file-store/apply/unsettled-streams.ts";
const OPEN_REPLICA = "../../src/file-store/open-replica.ts";
const LINE_MOVES = "../../src/file-store/apply/line-moves.ts";

const MUTATIONS: readonly Mutation[] = [
  {
    what: "the marker moves without a flush of the streams",
    kind: "close and reopen",
    module: DIRTY_FILES,
    mutate: ({ DirtyFiles }: typeof dirtyFilesModule) => ({
      DirtyFiles: class extends DirtyFiles {
        override async flush(): Promise<void> {}
      },
    }),
  },
  {
    what: "the end of the log moves without telling the list of dirty files",
    kind: "close and reopen",
    module: FOLLOWER,
    mutate: ({ LogFollower }: typeof followerModule) => ({
      LogFollower: class extends LogFollower {
        constructor(parts: followerModule.LogFollowerParts) {
          super({ ...parts, observers: parts.observers.filter((observer) => !("flush" in observer)) });
        }
      },
    }),
  },
  {
    what: "the end of the log moves without telling the stream index of the records of other processes",
    kind: "two processes",
    module: FOLLOWER,
    mutate: ({ LogFollower }: typeof followerModule) => ({
      LogFollower: class extends LogFollower {
        constructor(parts: followerModule.LogFollowerParts) {
          super({
            ...parts,
            observers: parts.observers.map((observer) => ("release" in observer ? ofOwn(observer) : observer)),
          });
        }
      },
    }),
  },
  {
    what: "the marker does not say that there are deletions before it",
    kind: "deletions",
    module: CUTS,
    mutate: ({ Cuts }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override async save(): Promise<number> {
          return 0;
        }
      },
    }),
  },
  {
    what: "a process does not learn of the deletions of another",
    kind: "one of two processes is killed while both delete",
    module: CUTS,
    mutate: ({ Cuts }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override onCommitted(record: CommittedRecord): void {
          if (record.isOwn) super.onCommitted(record);
        }
      },
    }),
  },
  {
    what: "the log does not tell a deletion from other events",
    kind: "deletions",
    module: "../../src/file-store/log/record-sections.ts",
    mutate: ({ sectionHeader }: typeof sectionsModule) => ({
      sectionHeader: (section: sectionsModule.Section, bytes: number) =>
        sectionHeader({ ...section, cut: undefined }, bytes),
    }),
  },
  {
    what: "a process does not learn of the compactions of another",
    kind: "one of two processes is killed while both compact",
    module: CUTS,
    mutate: ({ Cuts }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override onCommitted(record: CommittedRecord): void {
          if (record.isOwn) super.onCommitted(record);
        }
      },
    }),
  },
  {
    what: "a reader that began before a compaction gets the new events, too",
    kind: "compactions",
    module: CUTS,
    mutate: ({ Cuts }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override isHidden(section: sectionsModule.Section, horizon: number): boolean {
          return section.cut === undefined && super.isHidden(section, horizon);
        }
      },
    }),
  },
  {
    what: "the list of cuts has the last one of each stream only",
    kind: "compactions",
    module: CUTS,
    mutate: ({ Cuts, ...rest }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override of(key: never) {
          return super.of(key).slice(-1);
        }
        override isHidden(section: sectionsModule.Section, horizon: number): boolean {
          if (section.cut === "compacted" && section.position > horizon) return true;
          return this.of(section.key as never).some(
            ({ version, kind, position }) => section.version < version && (kind === "deleted" || position <= horizon),
          );
        }
      },
      ...rest,
    }),
  },
  {
    what: "reclaim takes the lines that follow a cut",
    kind: "dropped events are reclaimed",
    module: CUTS,
    mutate: ({ Cuts }: typeof cutsModule) => ({
      Cuts: class extends Cuts {
        override isDroppedFor(section: sectionsModule.Section): boolean {
          return this.last(section.key) !== undefined && section.cut === undefined;
        }
      },
    }),
  },
  {
    what: "reclaim leaves the streams' files as they are",
    kind: "dropped events are reclaimed",
    module: "../../src/file-store/reclaim/reclaim-streams.ts",
    mutate: () => ({ reclaimStream: async () => true }),
  },
  {
    what: "reclaim leaves the last segment as it is",
    kind: "dropped events are reclaimed",
    module: "../../src/file-store/log/commit-log.ts",
    mutate: ({ CommitLog }: typeof commitLogModule) => ({
      CommitLog: class extends CommitLog {
        override async seal(): Promise<void> {}
      },
    }),
  },
  {
    what: "a compressed segment lacks records",
    kind: "dropped events are reclaimed",
    module: "../../src/file-store/reclaim/segment-writer.ts",
    mutate: ({ SegmentWriter }: typeof segmentWriterModule) => ({
      SegmentWriter: class extends SegmentWriter {
        override add(bytes: Buffer): void {
          if (this.bytes < 900) super.add(bytes);
        }
      },
    }),
  },
  {
    what: "recovery writes nothing to the streams",
    kind: "close and reopen",
    module: APPLIER,
    mutate: ({ Applier }: typeof applierModule) => ({
      Applier: class extends Applier {
        override reapply(): void {}
      },
    }),
  },
  {
    what: "recovery writes over the lines of the Rust crate",
    kind: "a process is killed, and the Rust crate appends before the next one recovers",
    seed: 1,
    module: FOREIGN_TAIL,
    mutate: () => ({ foreignTail: () => undefined }),
  },
  {
    what: "recovery appends lines without a look at what the Rust crate has appended",
    kind: "a process is killed, and the Rust crate appends before the next one recovers",
    seed: 1,
    module: UNSETTLED,
    mutate: ({ UnsettledStreams }: typeof unsettledModule) => ({
      UnsettledStreams: class extends UnsettledStreams {
        readonly #files: StreamFiles;
        constructor(parts: UnsettledStreamsParts) {
          super(parts);
          this.#files = parts.files;
        }
        override append({ key, at }: Section, lines: Buffer): boolean {
          this.#files.acquire(key).file.write(lines, 0, lines.length, at);
          return true;
        }
      },
    }),
  },
  {
    what: "the lines of the Rust crate move without a note",
    kind: "a process is killed, and the Rust crate appends before the next one recovers",
    seed: 1,
    module: LINE_MOVES,
    mutate: ({ LineMoves }: typeof lineMovesModule) => ({
      LineMoves: class extends LineMoves {
        override async begin(): Promise<void> {}
      },
    }),
  },
  {
    what: "nothing tells that a copy is not whole",
    kind: "a process that makes backups is killed",
    module: COPY_MARKER,
    mutate: () => ({ beginCopy: nothing }),
  },
  {
    what: "a copy is whole before its last records are copied",
    kind: "backups beside commits",
    module: COPY_LOG,
    mutate: ({ copyLog }: typeof copyLogModule) => ({
      copyLog: (fs: FileSystem, source: copyLogModule.LogExtent, copy: copyLogModule.LogExtent) => {
        const { segment, offset, position } = source.end;
        return copyLog(fs, { ...source, end: { segment, offset: Math.max(offset - 30, 0), position } }, copy);
      },
    }),
  },
  {
    what: "a copy goes on after the torn end of another",
    kind: "a process that makes backups is killed",
    module: COPY_MARKER,
    mutate: ({ cutAfterRecords }: typeof copyMarkerModule) => ({
      cutAfterRecords: async (...given: Parameters<typeof cutAfterRecords>) => given[2],
      settleCopy: async (...[fs, paths]: Parameters<typeof copyMarkerModule.settleCopy>) => {
        fs.remove(paths.copying);
      },
    }),
  },
  {
    what: "a restoration keeps a whole record",
    kind: "a restoration to a position",
    module: CUT_POINT,
    mutate: ({ findCut }: typeof cutPointModule) => ({
      findCut: async (...given: Parameters<typeof findCut>) => ({ ...(await findCut(...given)), rest: undefined }),
    }),
  },
  {
    what: "an import takes each note for known",
    kind: "an import that goes on",
    module: KNOWN_NOTES,
    mutate: ({ KnownNotes }: typeof knownNotesModule) => ({
      KnownNotes: class extends KnownNotes {
        override async has(): Promise<boolean> {
          return true;
        }
      },
    }),
  },
  {
    what: "an export has events before notes",
    kind: "an import that goes on",
    module: EXPORT_STORE,
    mutate: ({ exportStore, firstEvent }: typeof exportStoreModule) => ({
      firstEvent,
      async *exportStore(...given: Parameters<typeof exportStore>) {
        const notes: string[] = [];
        for await (const line of exportStore(...given)) {
          if (line.includes('"end":true')) yield* notes;
          if (line.startsWith('{"manager"')) notes.push(line);
          else yield line;
        }
      },
    }),
  },
  {
    what: "an import does not compare what the store has",
    kind: "an import that goes on",
    module: IMPORT_STORE,
    mutate: ({ importStore }: typeof importStoreModule) => ({
      importStore: async (...[store, lines, options, changed]: Parameters<typeof importStore>) => {
        const rest: string[] = [];
        const head = await store.head();
        for await (const line of lines) {
          const position = Number(/"pos":(\d+)/.exec(line)?.[1] ?? 0);
          if (position === 0 || position > head + 1) rest.push(line);
        }
        return importStore(store, rest, options, changed);
      },
    }),
  },
  {
    what: "a torn tail stays",
    kind: "new log segments",
    module: LOG,
    mutate: ({ CommitLog }: typeof commitLogModule) => ({
      CommitLog: class extends CommitLog {
        override async cutTail(): Promise<void> {}
      },
    }),
  },
  {
    what: "recovery applies what the log does not hold for certain",
    kind: "a process is killed and the next one recovers",
    seed: 18,
    module: LOG,
    mutate: ({ CommitLog }: typeof commitLogModule) => ({
      CommitLog: class extends CommitLog {
        override async flushFrom(): Promise<void> {}
      },
    }),
  },
  {
    what: "checksums of records are not compared",
    kind: "new log segments",
    module: RECORD,
    mutate: (original: typeof commitRecordModule) => ({
      readRecord: (buffer: Buffer, offset: number, length: number, base: number) =>
        original.readRecord(...withChecksum(original, buffer, offset, length, base)),
    }),
  },
  {
    what: "the marker does not know the consumers that have notes",
    kind: "scheduled commands",
    seed: 1,
    module: MARKER,
    mutate: ({ writeMarker }: typeof markerModule) => ({
      writeMarker: (...[fs, path, place]: Parameters<typeof writeMarker>) =>
        writeMarker(fs, path, { ...place, consumers: [] }),
    }),
  },
  {
    what: "a repeated command is not scheduled again when it is sent",
    kind: "scheduled commands",
    seed: 1,
    module: "../../src/process-manager/scheduled-commands.ts",
    mutate: ({ applySchedule }: typeof scheduledCommandsModule) => ({
      applySchedule: (...[commands, { scheduled = [], ...note }]: Parameters<typeof applySchedule>) =>
        applySchedule(commands, { ...note, scheduled: note.fired === undefined ? scheduled : [] }),
    }),
  },
  {
    what: "a process manager passes an event before the dead letter of its command is written",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/event-store/traced-commit.ts",
    mutate: ({ tracedCommit }: typeof tracedCommitModule) => ({
      async tracedCommit(...[events, commit, ...rest]: Parameters<typeof tracedCommit>) {
        if (commit.consumer?.deadLetters === undefined) return tracedCommit(events, commit, ...rest);
        const { deadLetters, ...consumer } = commit.consumer;
        const passed = await tracedCommit(events, { ...commit, consumer }, ...rest);
        const { name, expectedSequence } = consumer;
        const letter = { name, expectedSequence: expectedSequence + 1, note: {}, deadLetters };
        if (passed.ok) await tracedCommit(events, { appends: [], consumer: letter });
        return passed;
      },
    }),
  },
  {
    what: "commands that wait for a dead letter are not sent when it is gone",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/process-manager/manager-letters.ts",
    mutate: ({ ManagerLetters }: typeof managerLettersModule) => ({
      ManagerLetters: class extends ManagerLetters {
        override async next(): Promise<undefined> {}
      },
    }),
  },
  {
    what: "a command is sent past the dead letter before it",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/process-manager/manager-letters.ts",
    mutate: ({ ManagerLetters }: typeof managerLettersModule) => ({
      ManagerLetters: class extends ManagerLetters {
        override async before(): Promise<undefined> {}
      },
    }),
  },
  {
    what: "a command that waited and fails comes after those that still wait",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/process-manager/manager-letters.ts",
    mutate: ({ ManagerLetters }: typeof managerLettersModule) => ({
      ManagerLetters: class extends ManagerLetters {
        override async next(sequence: number): ReturnType<managerLettersModule.ManagerLetters["next"]> {
          const next = await super.next(sequence);
          return next && { ...next, place: sequence + 1 };
        }
      },
    }),
  },
  {
    what: "commands that wait for a dead letter are in memory only",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/process-manager/kept-progress.ts",
    mutate: ({ KeptProgress }: typeof keptProgressModule) => ({
      KeptProgress: class extends KeptProgress {
        override commitNote(...[progress, note, cause]: CommitNoteArguments): Promise<boolean> {
          return super.commitNote(progress, note, cause);
        }
      },
    }),
  },
  {
    what: "a dead letter is dropped in memory only",
    kind: "dead letters of a process manager with order",
    seed: 1,
    module: "../../src/event-store/traced-commit.ts",
    mutate: ({ tracedCommit }: typeof tracedCommitModule) => ({
      tracedCommit(...[events, commit, ...rest]: Parameters<typeof tracedCommit>) {
        if (commit.consumer?.settledLetters === undefined || commit.appends.length > 0)
          return tracedCommit(events, commit, ...rest);
        return tracedCommit(events, { ...commit, consumer: { ...commit.consumer, settledLetters: [] } }, ...rest);
      },
    }),
  },
  {
    what: "a subscription passes an event before its dead letter is written",
    kind: "dead letters of a subscription",
    seed: 1,
    module: "../../src/subscription/subscription-letters.ts",
    mutate: ({ SubscriptionLetters }: typeof subscriptionLettersModule) => ({
      SubscriptionLetters: class extends SubscriptionLetters {
        protected override async note(...[note, letters]: NoteArguments): Promise<void> {
          await super.note(note, {});
          await super.note({}, letters);
        }
      },
    }),
  },
  {
    what: "a remembered rejection is answered before it is written",
    kind: "remembered outcomes",
    seed: 1,
    module: "../../src/aggregate/instance/decided-commands.ts",
    mutate: ({ DecidedCommands }: typeof decidedCommandsModule) => ({
      DecidedCommands: class extends DecidedCommands {
        override addRememberedVerdict(...[job, answer, outcome]: VerdictArguments): void {
          answer();
          super.addRememberedVerdict(job, () => {}, outcome);
        }
      },
    }),
  },
  {
    what: "the earlier place of a replica comes back after a power cut",
    kind: "a replica of a stream",
    module: OPEN_REPLICA,
    mutate: ({ openReplica }: typeof openReplicaModule) => ({
      openReplica: async (...given: Parameters<typeof openReplica>) => {
        const directory = await openReplica(...given);
        return { ...directory, keepPlace: (text: string) => directory.keepPlace(text, false) };
      },
    }),
  },
  {
    what: "the place of a replica counts whatever the replica has",
    kind: "a replica of a stream",
    module: "../../src/jetstream/replica/place.ts",
    mutate: ({ parsePlace }: typeof placeModule) => ({
      parsePlace: (...given: Parameters<typeof parsePlace>) => {
        const place = parsePlace(...given);
        return place && { ...place, closed: true };
      },
    }),
  },
  {
    what: "a person is forgotten, and the key stays",
    kind: "persons are forgotten",
    seed: 1,
    module: "../../src/file-store/keys/key-file.ts",
    mutate: ({ KeyFile }: typeof keyFileModule) => ({
      KeyFile: class extends KeyFile {
        override async destroy(): Promise<void> {}
      },
    }),
  },
  {
    what: "keys that a killed process has left are not destroyed",
    kind: "persons are forgotten",
    seed: 1,
    module: "../../src/personal/forgotten-keys.ts",
    mutate: ({ ForgottenKeys }: typeof forgottenKeysModule) => ({
      ForgottenKeys: class extends ForgottenKeys {
        override open(): Promise<void> {
          return this.look();
        }
      },
    }),
  },
  {
    what: "a key of a killed process is used before it is flushed",
    kind: "persons are forgotten",
    seed: 1,
    module: "../../src/file-store/keys/key-file.ts",
    mutate: ({ KeyFile }: typeof keyFileModule) => ({
      KeyFile: class extends KeyFile {
        override async readDurably(): Promise<void> {
          this.read("update");
        }
      },
    }),
  },
  {
    what: "another process does not look for forgotten persons",
    kind: "persons are forgotten",
    seed: 1,
    module: "../../src/personal/forgotten-keys.ts",
    mutate: ({ ForgottenKeys }: typeof forgottenKeysModule) => ({
      ForgottenKeys: class extends ForgottenKeys {
        #isOpen = false;
        override async look(): Promise<void> {
          if (!this.#isOpen) await super.look();
          this.#isOpen = true;
        }
      },
    }),
  },
  {
    what: "states are kept in plain text",
    kind: "persons are forgotten",
    seed: 1,
    module: "../../src/personal/personal-caches.ts",
    mutate: ({ PersonalCaches }: typeof personalCachesModule) => ({
      PersonalCaches: class extends PersonalCaches {
        override async sealSnapshot(_: unknown, snapshot: Snapshot): Promise<Snapshot> {
          return snapshot;
        }
      },
    }),
  },
  {
    what: "a dead letter is lost",
    kind: "commits without events",
    module: DEAD_LETTER_FILES,
    mutate: ({ DeadLetterFiles }: typeof deadLetterFilesModule) => ({
      DeadLetterFiles: class extends DeadLetterFiles {
        override apply(notes: readonly NoteSection[]): void {
          super.apply(notes.map((note) => ({ ...note, deadLetters: [] })));
        }
      },
    }),
  },
  {
    what: "a dead letter is written under two keys",
    kind: "commits without events",
    module: DEAD_LETTER_FILES,
    mutate: ({ DeadLetterFiles }: typeof deadLetterFilesModule) => ({
      DeadLetterFiles: class extends DeadLetterFiles {
        override apply(notes: readonly NoteSection[]): void {
          super.apply(
            notes.map(({ deadLetters = [], ...note }) => ({
              ...note,
              deadLetters: deadLetters.flatMap((letter) => [letter, { ...letter, key: `${letter.key} again` }]),
            })),
          );
        }
      },
    }),
  },
  {
    what: "a process manager passes the first event of its catch-up",
    kind: "a process manager and a projection",
    module: "../../src/process-manager/handler-progress.ts",
    mutate: ({ HandlerProgress }: typeof handlerProgressModule) => ({
      HandlerProgress: class extends HandlerProgress {
        #isFirst = true;
        override outputsDone(event: never): number {
          const isFirst = this.#isFirst;
          this.#isFirst = false;
          return isFirst ? Infinity : super.outputsDone(event);
        }
      },
    }),
  },
  {
    what: "a position is written twice",
    kind: "close and reopen",
    module: "../../src/file-store/lines/event-line.ts",
    mutate: ({ lineOf }: typeof eventLineModule) => ({
      lineOf: (event: never, meta: undefined, position: number) => lineOf(event, meta, position === 7 ? 6 : position),
    }),
  },
];

/** An observer that learns only of the records of its own process. */
function ofOwn(observer: CommitObserver): CommitObserver {
  return {
    onCommitted: (record) => (record.isOwn ? observer.onCommitted?.(record) : undefined),
    onApplied: (record) => (record.isOwn ? observer.onApplied?.(record) : undefined),
  };
}

/** Explores with one seed after the other: which one finds the breakage depends on every call of the engine. */
async function noticed(place: Place, at: (place: Place) => CrashScenario<FileEventStore>): Promise<void> {
  const { seed: first = 5 } = place;
  for (let seed = first; seed < first + SEEDS; seed++) await exploreCrashes(at({ ...place, seed }));
}

/** Usually the first of these seeds finds the breakage. */
const SEEDS = 12;

/** The same place in a copy whose record has the right checksum for its bytes. */
function withChecksum(
  { readRecord: read, sealRecord, HEADER_ROOM }: typeof commitRecordModule,
  buffer: Buffer,
  offset: number,
  length: number,
  base: number,
): [Buffer, number, number, number] {
  const place: [Buffer, number, number, number] = [buffer, offset, length, base];
  if (read(...place).kind !== "invalid") return place;
  const text = buffer.toString("latin1", offset, Math.min(length, offset + HEADER_ROOM));
  const header =
    /^\{"commit":(\d+),"events":(\d+),"bytes":(\d+),"flushed":(\d+)(,"adopted":true)?,"crc":"[^"]*"\}\n/.exec(text);
  if (header === null) return place;
  const [position = 0, events = 0, bytes = 0, flushed = 0] = header.slice(1, 5).map(Number);
  const record = Buffer.alloc(HEADER_ROOM + bytes);
  buffer.copy(record, HEADER_ROOM, offset + header[0].length, length);
  const start = sealRecord(record, record.length, { position, events, flushed, adopted: header[5] !== undefined });
  const copy = Buffer.from(buffer);
  record.copy(copy, offset, start);
  return [copy, offset, length, base];
}

const PLACES = new Map(
  [...BREAKAGES, ...MUTATIONS].map(({ kind, seed = 5 }) => [`${kind}, seed ${seed}`, { kind, seed }]),
);

describe("the explorer finds no fault in the real store with", () => {
  for (const [name, place] of PLACES) {
    test(name, async () => {
      expect((await exploreCrashes(scenario(place))).violations).toBe(0);
    });
  }
});

describe("the explorer finds that", () => {
  for (const { what, broken, ...place } of BREAKAGES) {
    test(what, async () => {
      const explored = noticed(place, (at) => {
        const { open, ...rest } = scenario(at);
        return { ...rest, open: (fileSystem) => open(broken(fileSystem)) };
      });
      await expect(explored).rejects.toThrow(CrashError);
    });
  }

  test("commits are acknowledged before the flush", async () => {
    const early = { ...scenario({ kind: "new log segments" }) };
    const open = (fileSystem: FileSystem): Promise<FileEventStore> => openLog(fileSystem, { durability: "os" });
    await expect(exploreCrashes({ ...early, open })).rejects.toThrow(CrashError);
  });
});

describe("the explorer finds a fault in an engine in which", () => {
  afterEach(() => {
    for (const { module } of MUTATIONS) vi.doUnmock(module);
    vi.resetModules();
  });

  for (const { what, module, mutate, ...place } of MUTATIONS) {
    test(what, async () => {
      vi.resetModules();
      vi.doMock(module, async (importOriginal) => {
        const original = await importOriginal<never>();
        return { ...(original as object), ...mutate(original) };
      });
      const { WORKLOADS: mutated } = await import("../support/crash-workloads.ts");
      await expect(noticed(place, (at) => scenario(at, mutated))).rejects.toThrow(CrashError);
    });
  }
});
