import type { CrashRemains, TrackedCommit } from "./crash-scenario.ts";
import { isZero } from "../disk/simulated-content.ts";
import type { SimulatedDisk } from "../disk/simulated-disk.ts";

/** What a check needs to know of an event. */
export interface SeenEvent {
  /** The aggregate's type and id. */
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
  readonly position: number;
  readonly type: string;
  readonly data?: unknown;
  readonly correlationId?: string | undefined;
}

/** The part of `AggregateStore` that reads events. */
export interface EventReader {
  listStreams(): Promise<readonly { readonly type: string; readonly id: string }[]>;
  readEvents(type: string, id: string): AsyncIterable<SeenEvent>;
  close(): Promise<void>;
}

export interface InvariantOptions {
  /** The store's directory; `"/store"` if left out. */
  readonly directory?: string;
}

/**
 * The default check of `exploreCrashes`, for an `AggregateStore`: every acknowledged commit is there, every commit is whole or
 * absent, versions and positions have no holes, and both copies of every event, in the commit log and in the
 * stream's file, are the same. Gives the events in global order.
 */
export async function checkInvariants(
  { disk, store, commits }: CrashRemains<EventReader>,
  { directory = "/store" }: InvariantOptions = {},
): Promise<readonly string[]> {
  const events: SeenEvent[] = [];
  for (const { type, id } of await store.listStreams())
    for await (const event of store.readEvents(type, id)) events.push(event);
  events.sort((a, b) => a.position - b.position);
  checkEvents(events, commits);
  checkStoreFiles(disk, directory, events);
  return events.map(nameOf);
}

/** Checks a store's events, given in global order, against what was committed. */
export function checkEvents(events: readonly SeenEvent[], commits: readonly TrackedCommit[]): void {
  const versions = new Map<string, number>();
  const found = new Map<string, SeenEvent[]>();
  for (const [i, event] of events.entries()) {
    const stream = `${event.aggregate}/${event.id}`;
    const version = (versions.get(stream) ?? 0) + 1;
    if (event.position !== i + 1) throw new Error(`position ${i + 1} is missing: ${nameOf(event)} is there instead`);
    if (event.version !== version)
      throw new Error(`version ${version} of ${stream} is missing: ${nameOf(event)} is there instead`);
    versions.set(stream, version);
    if (event.correlationId === undefined) continue;
    const same = found.get(event.correlationId);
    if (same === undefined) found.set(event.correlationId, [event]);
    else same.push(event);
  }
  for (const { id, events: expected, outcome, result } of commits) {
    const there = found.get(id) ?? [];
    found.delete(id);
    if (outcome === "acknowledged" && there.length < expected)
      throw new Error(`commit ${id} was acknowledged with ${expected} events; ${there.length} are there`);
    if (there.length > 0 && there.length !== expected)
      throw new Error(`commit ${id} has ${expected} events; ${there.length} are there: it is neither whole nor absent`);
    const last = there.at(-1)?.position ?? 0;
    if (last - (there[0]?.position ?? 1) + 1 !== there.length)
      throw new Error(`the events of commit ${id} are not side by side: ${there.map(nameOf).join(", ")}`);
    const position =
      typeof result === "object" && result !== null && "position" in result ? result.position : undefined;
    if (typeof position === "number" && there.length > 0 && position !== last)
      throw new Error(`commit ${id} was acknowledged at position ${position}; it is at ${last}`);
  }
  for (const [id, extra] of found) throw new Error(`nobody has committed ${extra.map(nameOf).join(", ")} (${id})`);
}

/** A line that says which event this is. */
export function nameOf({ aggregate, id, version, position, type, correlationId }: SeenEvent): string {
  return `${position} ${aggregate}/${id} ${version} ${type} ${correlationId ?? ""}`;
}

/** The files that a check looks at, by their paths: those of a simulated disk, or of a real one. */
export type StoreFiles = Pick<SimulatedDisk, "files" | "bytesOf">;

const decoder = new TextDecoder();

/**
 * Reads the commit log and the streams' files byte by byte, without the store's code, and compares them with each other and
 * with the events that the store gave. For a store without pending work.
 */
export function checkStoreFiles(disk: StoreFiles, directory: string, events: readonly SeenEvent[]): void {
  const log = `${directory}/commit_log/`;
  const files = disk.files();
  const ends = new Map<string, { at: number; version: number }>();
  const streams = new Map<string, Uint8Array>();
  let position = 0;
  for (const path of files.filter((file) => file.startsWith(log)).sort()) {
    const bytes = disk.bytesOf(path) ?? new Uint8Array();
    let at = 0;
    const line = (): string => {
      const end = bytes.indexOf(NEWLINE, at);
      if (end < 0) throw new Error(`${path}, byte ${at}: a line without an end`);
      const text = decoder.decode(bytes.subarray(at, end));
      at = end + 1;
      return text;
    };
    const name = Number(path.slice(log.length, log.length + 16));
    // A segment that was only just begun: its first line is written again before the first record.
    if (bytes.length === 0 || bytes[0] === 0 || bytes.indexOf(NEWLINE) < 0) {
      if (name !== position + 1) throw new Error(`${path} holds nothing, and position ${position + 1} is due`);
      continue;
    }
    const first = (JSON.parse(line()) as { readonly first: number }).first;
    if (first !== name || first !== position + 1)
      throw new Error(`${path} begins with ${first}; ${position + 1} is due`);
    while (at < bytes.length && bytes[at] !== 0) {
      const record = JSON.parse(line()) as { readonly commit: number; readonly events: number; readonly bytes: number };
      if (record.commit !== position + 1)
        throw new Error(`${path} has commit ${record.commit} where ${position + 1} is due`);
      const end = at + record.bytes;
      while (at < end) {
        const section = JSON.parse(line()) as Section;
        if (section.stream === undefined) {
          at += section.bytes;
          continue;
        }
        const stream = streamBytes(disk, directory, section.stream, streams);
        const known = ends.get(section.stream) ?? { at: 0, version: 0 };
        if (section.at !== known.at || section.version !== known.version + 1)
          throw new Error(
            `${path}: ${JSON.stringify(section)} does not follow byte ${known.at}, version ${known.version}`,
          );
        const inLog = bytes.subarray(at, at + section.bytes);
        if (!equal(inLog, stream.subarray(section.at, section.at + section.bytes)))
          throw new Error(
            `the copies of ${section.stream} from version ${section.version}, byte ${section.at} on differ`,
          );
        for (let i = 0; i < section.events; i++) compare(line(), events[position++], section.stream);
        ends.set(section.stream, { at: section.at + section.bytes, version: known.version + section.events });
      }
      if (at !== end)
        throw new Error(`${path}: the record of position ${record.commit} has another length than it says`);
    }
    if (!isZero(bytes, at)) throw new Error(`${path} has something behind byte ${at}`);
  }
  if (position !== events.length)
    throw new Error(`the commit log has ${position} events, the store gave ${events.length}`);
  for (const path of files) {
    if (!path.startsWith(`${directory}/streams/`) || !path.endsWith("/app.jsonl")) continue;
    const key = path.slice(directory.length + "/streams/".length, -"/app.jsonl".length);
    const size = streamBytes(disk, directory, key, streams).length;
    if (size !== (ends.get(key)?.at ?? 0))
      throw new Error(`${path} has ${size} bytes, the commit log has ${ends.get(key)?.at ?? 0} of it`);
  }
}

const NEWLINE = 0x0a;

interface Section {
  /** Missing for what a process manager notes. */
  readonly stream?: string;
  readonly version: number;
  readonly at: number;
  readonly events: number;
  readonly bytes: number;
}

function streamBytes(disk: StoreFiles, directory: string, key: string, known: Map<string, Uint8Array>): Uint8Array {
  let bytes = known.get(key);
  if (bytes === undefined)
    known.set(key, (bytes = disk.bytesOf(`${directory}/streams/${key}/app.jsonl`) ?? new Uint8Array()));
  return bytes;
}

function compare(line: string, event: SeenEvent | undefined, stream: string): void {
  const written = JSON.parse(line) as { readonly type: string; readonly data: unknown; readonly pos?: number };
  if (event === undefined) throw new Error(`${stream}: the store did not give ${line}`);
  if (
    written.type !== event.type ||
    (written.pos ?? event.position) !== event.position ||
    JSON.stringify(written.data) !== JSON.stringify(event.data ?? null)
  )
    throw new Error(`${stream}: the store gave ${nameOf(event)} for ${line}`);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
