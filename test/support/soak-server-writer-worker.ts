import * as fs from "node:fs";
import { isEventfoldError } from "../../src/errors.ts";
import type { CommitResult, StreamAppend } from "../../src/event-store/event-store.ts";
import { openSoakStore, type SoakBackend } from "./soak-backends.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/**
 * Commits to one store, in several lanes at once, until the parent sends a line. For each commit it writes, in one synchronous call,
 * `ok <id> <events> <position>`, `unknown <id>` or `nothing <id>`.
 */
const { backend, run, streams, lanes, patience } = workerOptions<{
  readonly backend: SoakBackend;
  /** Distinguishes the events of this process. */
  readonly run: string;
  readonly streams: number;
  readonly lanes: number;
  readonly patience: number;
}>();

const { store, end } = await openSoakStore(backend, patience);
const versions = new Map<string, number>();
let isOver = false;
let given = 0;
void parentsLine().then(() => (isOver = true));
tell("open");

function tell(line: string): void {
  fs.writeSync(1, `${line}\n`);
}

function appendsOf(id: string, size: number): StreamAppend[] {
  const name = `s${Math.floor(Math.random() * streams)}`;
  // A commit of several streams now and then.
  const names = size > 2 ? [name, `${run}.own`] : [name];
  return names.map((streamId, i) => ({
    stream: { type: "soak", id: streamId },
    expectedVersion: versions.get(streamId) ?? 0,
    events: Array.from({ length: i === 0 ? size - names.length + 1 : 1 }, (_, k) => ({
      ...{ type: "Written", data: '{"by":"soak"}', schemaVersion: 0, timestamp: Date.now() },
      eventId: `${id}/${i}.${k}`,
    })),
  }));
}

function take(result: CommitResult, appends: readonly StreamAppend[]): void {
  if (result.ok) {
    for (const { stream, expectedVersion, events } of appends)
      versions.set(stream.id, Math.max(versions.get(stream.id) ?? 0, expectedVersion + events.length));
  } else if ("stream" in result) versions.set(result.stream.id, result.actualVersion);
}

/** A commit that was refused was not written, so its events may come again under the same ids. */
async function commitOne(): Promise<void> {
  const id = `${run}-${given++}`;
  const size = 1 + (given % 4);
  while (!isOver) {
    const appends = appendsOf(id, size);
    try {
      const result = await store.commit({ appends });
      take(result, appends);
      if (!result.ok) continue;
      tell(`ok ${id} ${size} ${result.position}`);
    } catch (error) {
      if (!isEventfoldError(error)) throw error;
      if (error.code === "COMMIT_UNKNOWN") tell(`unknown ${id}`);
      else if (error.code === "STORE_UNAVAILABLE") tell(`nothing ${id}`);
      else throw error;
    }
    return;
  }
}

await Promise.all(
  Array.from({ length: lanes }, async () => {
    while (!isOver) await commitOne();
  }),
);
await end();
tell("closed");
