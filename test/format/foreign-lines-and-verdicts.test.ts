import * as fs from "node:fs";
import { openNodeFileSystem } from "eventfold-es/testing";
import { expect, test } from "vitest";
import type { Commit } from "../../src/event-store/event-store.ts";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const stream = { type: "counter", id: "a" };
const LINE = '{"type":"Added","data":{"by":100},"ts":1795415062,"id":"foreign"}\n';

async function openWithForeignLine(line: string): Promise<FileEventStore> {
  const directory = temporaryDirectory();
  const store = await openFileEventStore(await openNodeFileSystem(), directory);
  const event = { type: "Added", data: '{"by":1}', schemaVersion: 0, timestamp: 0 };
  await store.commit({ appends: [{ stream, expectedVersion: 0, events: [event] }] });
  await store.close();
  const again = await openFileEventStore(await openNodeFileSystem(), directory);
  fs.appendFileSync(`${directory}/streams/counter/a/app.jsonl`, line);
  return again;
}

function deadLetterAt(expectedVersion: number): Commit {
  return {
    appends: [{ stream, expectedVersion, events: [] }],
    consumer: { name: "pm", expectedSequence: 0, note: null, deadLetters: [{ key: "k", letter: { error: "no" } }] },
  };
}

test("an append without events conflicts with a line that the Rust crate has appended unseen", async () => {
  const store = await openWithForeignLine(LINE);
  expect(await store.commit({ appends: [{ stream, expectedVersion: 1, events: [] }] })).toEqual({
    ok: false,
    stream,
    actualVersion: 2,
  });
  expect(await store.commit({ appends: [{ stream, expectedVersion: 2, events: [] }] })).toEqual({
    ok: true,
    position: 2,
  });
  await store.close();
});

test("a dead letter is not written beside a foreign line that its decision has not seen", async () => {
  const store = await openWithForeignLine(LINE);
  expect(await store.commit(deadLetterAt(1))).toEqual({ ok: false, stream, actualVersion: 2 });
  expect(await store.deadLetters("pm")).toEqual([]);
  expect((await store.commit(deadLetterAt(2))).ok).toBe(true);
  expect(await store.deadLetters("pm")).toHaveLength(1);
  await store.close();
});

test("an unfinished foreign line changes no version", async () => {
  const store = await openWithForeignLine(LINE.slice(0, 20));
  expect((await store.commit({ appends: [{ stream, expectedVersion: 1, events: [] }] })).ok).toBe(true);
  await store.close();
});
