import { aggregate, AggregateStore, data, isEventfoldError, processManager, projection } from "eventfold-es";
import { repair, verify } from "eventfold-es/doctor";
import { type FileSystem, SimulatedDisk } from "eventfold-es/testing";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import { collect } from "./collect.ts";

export const STORE = "/store";

/** Segments so small that a few commits need several. */
const SMALL_LOG = { segmentBytes: 1500, preallocateBytes: 700 };

/** The files of a store by their paths. */
export type Image = ReadonlyMap<string, Uint8Array>;

export function imageOf(disk: SimulatedDisk): Image {
  return new Map(disk.files().map((path) => [path, new Uint8Array(disk.bytesOf(path) ?? [])]));
}

export function diskOf(image: Image): SimulatedDisk {
  const disk = new SimulatedDisk({ record: false });
  fill(disk, image);
  return disk;
}

/** Puts the files of a store on a disk, all of them durable. */
export function fill(disk: SimulatedDisk, image: Image): void {
  disk.makeDirectory(STORE);
  for (const [path, bytes] of image) {
    disk.makeDirectory(path.slice(0, path.lastIndexOf("/")));
    const file = disk.open(path, "create");
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  }
  disk.settle();
}

/** The image with one file changed, or (for `undefined`) without it. */
export function withFile(image: Image, path: string, bytes: Uint8Array | undefined): Image {
  const changed = new Map(image);
  if (bytes === undefined) changed.delete(path);
  else changed.set(path, bytes);
  return changed;
}

export function text(image: Image, path: string): string {
  return Buffer.from(image.get(path) ?? []).toString("utf8");
}

const Item = aggregate("item", {
  initial: { sum: 0, notes: [] as string[] },
  events: { Added: data<{ by: number; note: string }>() },
  commands: { Add: data<{ by: number; note: string }>() },
  rejections: { TooMuch: data() },
}).define({
  snapshotEvery: 2,
  handle: { Add: ({ data: added, emit, reject }) => (added.by > 90 ? reject.TooMuch() : emit.Added(added)) },
  apply: { Added: ({ sum, notes }, { by, note }) => ({ sum: sum + by, notes: [...notes, note] }) },
});

const Sums = projection("sums", () => ({ byId: {} as Record<string, number> })).on(Item, {
  Added: (sums, event) => {
    sums.byId[event.id] = (sums.byId[event.id] ?? 0) + event.data.by;
  },
});

/** Copies each addition to `a`. An addition that is too large becomes a dead letter. */
const Copier = processManager("copier", { dispatches: [Item] }).on(Item, {
  Added: (_, event) =>
    event.id === "a" ? { dispatch: Item.at("copy/ä").Add({ by: event.data.by * 10, note: "copied" }) } : undefined,
});

async function openItems(fileSystem: FileSystem) {
  let id = 0;
  return AggregateStore.builder(STORE)
    .aggregate(Item)
    .projection(Sums)
    .processManager(Copier)
    .processManagerMode("manual")
    .clock(() => 1_700_000_000_000 + id * 1001)
    .ids(() => `e${++id}`)
    .fileSystem(fileSystem)
    .open();
}

/** A store with every kind of content: two streams and a copy, a snapshot, checkpoints of each kind, notes, a dead letter. */
export async function itemStore(): Promise<Image> {
  const disk = new SimulatedDisk();
  const store = await openItems(disk);
  const add = (id: string, by: number, note: string): Promise<unknown> =>
    store.get(Item, id).execute({ type: "Add", data: { by, note } }, { actor: "u-1" });
  await add("a", 1, "first");
  await add("b", 2, "größe 🦀");
  await Promise.all([add("a", 3, "x"), add("b", 4, "y")]);
  await store.runProcessManagers();
  await add("a", 12, "too much to copy");
  await store.runProcessManagers();
  await store.projection(Sums);
  const seen = store.subscribe({ name: "reader" })[Symbol.asyncIterator]();
  for (let i = 0; i < 4; i++) await seen.next();
  await seen.return?.();
  await store.close();
  return imageOf(disk);
}

/** A store whose log has several segments, and streams that grow in turns. One of them is deleted on the way. */
export async function segmentedStore(): Promise<Image> {
  const disk = new SimulatedDisk();
  const store = await openFileEventStore(disk, STORE, { log: SMALL_LOG });
  const versions = new Map<string, number>();
  for (let n = 0; n < 14; n++) {
    const appends = ["p", "q", "r"].slice(n % 3).map((id) => {
      const expectedVersion = versions.get(id) ?? 0;
      versions.set(id, expectedVersion + 1);
      const payload = JSON.stringify({ n, fill: "x".repeat((n * 31) % 90) });
      const event = {
        type: "Added",
        data: payload,
        schemaVersion: 0,
        timestamp: 1_700_000_000_000 + n,
        eventId: `${id}${n}`,
      };
      return { stream: { type: "s", id }, expectedVersion, events: [event] };
    });
    await store.commit({ appends });
    if (n !== 8) continue;
    const version = (versions.get("q") ?? 0) + 1;
    versions.set("q", version);
    const deletion = {
      ...{ type: "$deleted", data: JSON.stringify({ version, final: false }), schemaVersion: 0 },
      ...{ timestamp: 1_700_000_000_000 + n, eventId: "deletion" },
    };
    const name = { type: "s", id: "q" };
    await store.commit({
      appends: [{ stream: name, expectedVersion: version - 1, events: [deletion], cut: "deleted" }],
    });
  }
  await store.close();
  return imageOf(disk);
}

/** The end of a store whose log ends with commits without events. */
export interface NotesEnd {
  /** The kinds of the last commits: an event, a note, or a note with a dead letter. */
  readonly commits: readonly ("event" | "note" | "letter" | "event and note")[];
  readonly closed: boolean;
  readonly segmentBytes?: number;
}

/** A store with two events and then other commits, which the process manager's checkpoint does not cover. */
export async function notesStore({ commits, closed, segmentBytes = 1 << 20 }: NotesEnd): Promise<Image> {
  const disk = new SimulatedDisk();
  const store = await openFileEventStore(disk, STORE, { log: { segmentBytes, preallocateBytes: 300 } });
  let version = 0;
  let sequence = 0;
  for (const kind of ["event", "event", ...commits]) {
    const event = {
      type: "Added",
      data: JSON.stringify({ n: version, fill: "x".repeat(50) }),
      schemaVersion: 0,
      timestamp: 1_700_000_000_000 + version,
      eventId: `p${version}`,
    };
    const letter = { key: `copier/${sequence}`, letter: { error: "größe" } };
    await store.commit({
      appends: kind.startsWith("event")
        ? [{ stream: { type: "s", id: "p" }, expectedVersion: version++, events: [event] }]
        : [],
      ...(kind === "event"
        ? {}
        : {
            consumer: {
              ...{ name: "copier", expectedSequence: sequence++, note: { n: sequence } },
              ...(kind === "letter" ? { deadLetters: [letter] } : {}),
            },
          }),
    });
  }
  if (closed) await store.close();
  return imageOf(disk);
}

/** Everything that a user can see of a store; for each part, its value or the code of its error. */
export type Observation = Readonly<Record<string, string>>;

/** `"error CODE"` for an error of ours; anything else is a bug and thrown. */
async function attempt(read: () => Promise<unknown>): Promise<string> {
  try {
    return JSON.stringify(await read());
  } catch (error) {
    if (isEventfoldError(error)) return `error ${error.code}`;
    throw error;
  }
}

export async function observeItems(disk: SimulatedDisk): Promise<Observation> {
  let store: Awaited<ReturnType<typeof openItems>>;
  try {
    store = await openItems(disk);
  } catch (error) {
    if (isEventfoldError(error)) return { open: `error ${error.code}` };
    throw error;
  }
  try {
    const seen: Record<string, string> = { open: "ok" };
    seen["list"] = await attempt(() => store.listStreams());
    for (const id of ["a", "b", "copy/ä"]) {
      seen[`state of ${id}`] = await attempt(() => store.get(Item, id).state());
      seen[`events of ${id}`] = await attempt(() => collect(store.readEvents("item", id)));
    }
    seen["projection"] = await attempt(() => store.projection(Sums));
    seen["all"] = await attempt(async () => {
      const events: unknown[] = [];
      // A replaced log may have fewer events.
      for await (const event of store.subscribe({ signal: AbortSignal.timeout(1000) }))
        if (events.push(event) === ITEM_EVENTS) break;
      return events;
    });
    return seen;
  } finally {
    await store.close().catch((error: unknown) => {
      if (!isEventfoldError(error)) throw error;
    });
  }
}

/** Events in `itemStore`. */
const ITEM_EVENTS = 7;

export async function observeSegments(disk: SimulatedDisk): Promise<Observation> {
  let store: FileEventStore;
  try {
    store = await openFileEventStore(disk, STORE, { log: SMALL_LOG });
  } catch (error) {
    if (isEventfoldError(error)) return { open: `error ${error.code}` };
    throw error;
  }
  try {
    const seen: Record<string, string> = { open: "ok" };
    seen["list"] = await attempt(() => store.listStreams());
    for (const id of ["p", "q", "r"]) {
      seen[`events of ${id}`] = await attempt(async () =>
        (await collect(store.readStream({ type: "s", id }))).flat().map(plain),
      );
    }
    seen["all"] = await attempt(async () => (await collect(store.readAll())).flat().map(plain));
    return seen;
  } finally {
    await store.close().catch((error: unknown) => {
      if (!isEventfoldError(error)) throw error;
    });
  }
}

export async function observeNotes(disk: SimulatedDisk): Promise<Observation> {
  let store: FileEventStore;
  try {
    store = await openFileEventStore(disk, STORE);
  } catch (error) {
    if (isEventfoldError(error)) return { open: `error ${error.code}` };
    throw error;
  }
  try {
    return {
      open: "ok",
      events: await attempt(async () => (await collect(store.readStream({ type: "s", id: "p" }))).flat().map(plain)),
      all: await attempt(async () => (await collect(store.readAll())).flat().map(plain)),
      notes: await attempt(() => store.consumerNotes("copier", 0)),
      letters: await attempt(() => store.deadLetters("copier")),
    };
  } finally {
    await store.close().catch((error: unknown) => {
      if (!isEventfoldError(error)) throw error;
    });
  }
}

function plain(event: {
  readonly stream: unknown;
  readonly type: string;
  readonly data: unknown;
  readonly version: number;
  readonly position: number;
  readonly timestamp: number;
  readonly eventId: string | undefined;
}): unknown {
  const { stream, type, data: payload, version, position, timestamp, eventId } = event;
  return { stream, type, data: payload, version, position, timestamp, eventId };
}

/** The parts that have changed and are no error. */
export function changedParts(reference: Observation, seen: Observation): string[] {
  if (seen["open"] !== "ok") return [];
  return Object.keys(reference).filter((part) => seen[part] !== reference[part] && !seen[part]?.startsWith("error "));
}

/** A store to damage, and what its users see. */
export interface DamageCase {
  readonly image: Image;
  readonly observe: (disk: SimulatedDisk) => Promise<Observation>;
  readonly reference: Observation;
}

export async function itemCase(): Promise<DamageCase> {
  const image = await itemStore();
  return { image, observe: observeItems, reference: await observeItems(diskOf(image)) };
}

export async function segmentedCase(): Promise<DamageCase> {
  const image = await segmentedStore();
  return { image, observe: observeSegments, reference: await observeSegments(diskOf(image)) };
}

interface Expectation {
  /** Its absence cannot be detected. */
  readonly maySeemClean?: boolean;
  /** Only this file holds notes of process managers. */
  readonly mayLoseNotes?: boolean;
}

/**
 * Damages a store and returns the broken promises. A use returns the same as before or an error; `verify` names the file and
 * changes nothing; `repair` restores everything, and a second `repair` changes nothing.
 */
export async function violations(
  { image, observe, reference }: DamageCase,
  path: string,
  bytes: Uint8Array | undefined,
  { maySeemClean = false, mayLoseNotes = false }: Expectation = {},
): Promise<string[]> {
  const damaged = withFile(image, path, bytes);
  const found: string[] = [];
  const changed = changedParts(reference, await observe(diskOf(damaged)));
  if (changed.length > 0) found.push(`silently different: ${changed.join(", ")}`);
  const disk = diskOf(damaged);
  const report = await verify(STORE, { fileSystem: disk });
  if (!sameImage(damaged, imageOf(disk))) found.push("verify has changed something");
  // The finding's offset is where the log ends too early.
  const directory = `${path.slice(0, path.lastIndexOf("/"))}/`;
  const names = (file: string): boolean =>
    file === path || path.startsWith(`${file}/`) || (bytes === undefined && file.startsWith(directory));
  if (!maySeemClean && !report.findings.some(({ file }) => names(file)))
    found.push(`verify does not name the file: ${JSON.stringify(report.findings)}`);
  const { after, lost } = await repair(STORE, { fileSystem: disk });
  if (!after.clean) found.push(`not clean after repair: ${JSON.stringify(after.findings)}`);
  const gone = lost.filter(({ kind }) => !(mayLoseNotes && kind === "notes-lost"));
  if (gone.length > 0) found.push(`lost: ${JSON.stringify(gone)}`);
  const { actions } = await repair(STORE, { fileSystem: disk });
  if (actions.length > 0) found.push(`a second repair does something: ${JSON.stringify(actions)}`);
  const repaired = await observe(diskOf(imageOf(disk)));
  for (const part of Object.keys(reference))
    if (repaired[part] !== reference[part]) found.push(`after repair, ${part} is ${repaired[part]}`);
  return found;
}

export function sameImage(a: Image, b: Image): boolean {
  return (
    a.size === b.size && [...a].every(([path, bytes]) => Buffer.compare(bytes, b.get(path) ?? Buffer.alloc(0)) === 0)
  );
}

/** The image with a part of a file's text replaced by as many other characters. */
export function overwrite(image: Image, path: string, piece: string, by = "#"): Image {
  const bytes = Buffer.from(image.get(path) ?? []);
  const at = bytes.indexOf(piece);
  if (at < 0) throw new Error(`${path} has no ${piece}`);
  bytes.fill(by, at, at + Buffer.byteLength(piece));
  return withFile(image, path, bytes);
}

/** Where a file's last commit begins. */
export function lastRecord(image: Image, path: string): number {
  return Buffer.from(image.get(path) ?? []).lastIndexOf('{"commit"');
}
