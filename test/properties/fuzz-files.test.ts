import { crc32 } from "node:zlib";
import { isEventfoldError } from "eventfold-es";
import { repair, verify } from "eventfold-es/doctor";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diskOf, imageOf, itemStore, observeItems, STORE, withFile } from "../support/damage.ts";

const FILES = {
  "a commit log": `${STORE}/commit_log/0000000000000001.jsonl`,
  "a stream": `${STORE}/streams/item/a/app.jsonl`,
  "a snapshot": `${STORE}/streams/item/a/views/state.snapshot.json`,
  "a projection's checkpoint": `${STORE}/projections/sums/checkpoint.eventfold.json`,
  "a process manager's checkpoint": `${STORE}/process_managers/copier/checkpoint.eventfold.json`,
  "a subscription's checkpoint": `${STORE}/subscriptions/reader/checkpoint.eventfold.json`,
  "dead letters": `${STORE}/process_managers/copier/dead_letters.jsonl`,
  "the list of streams": `${STORE}/meta/streams.jsonl`,
  "the marker": `${STORE}/meta/marker.json`,
  "the head": `${STORE}/meta/head`,
  "the table of ends": `${STORE}/meta/stream_ends`,
} as const;

const deep = "[".repeat(100_000) + "]".repeat(100_000);
const event = (data: string, more = ""): string => `{"type":"Added","data":${data},"ts":1700000000${more}}\n`;
/** A snapshot or checkpoint with the right checksum. */
const sealed = (text: string): string => `${text},"crc":"${crc32(text).toString(16).padStart(8, "0")}"}`;
/** A record of the log with the right checksum. */
const record = (body: string, position = 1, events = 1): string => {
  const head = `{"commit":${position},"events":${events},"bytes":${Buffer.byteLength(body)},"flushed":51`;
  const checksum = crc32(body, crc32(head)).toString(16).padStart(8, "0");
  return `{"eventfold-es":"commit log","format":1,"first":1}\n${head},"crc":"${checksum}"}\n${body}`;
};
const consumer = (body: string, bytes = Buffer.byteLength(body)): string =>
  `{"manager":"copier","sequence":1,"bytes":${bytes}}\n${body}`;

const HOSTILE: readonly string[] = [
  "",
  "\n\n \r\n",
  "\0".repeat(300),
  "\uFEFF{}\n",
  "{}\r\n{}\r\n",
  "null\n",
  "[]\n",
  `${deep}\n`,
  event(deep),
  event(`"${"x".repeat(2_000_000)}"`),
  event("9007199254740993"),
  event('{"by":1,"note":"x"}', ',"ts":1'),
  event('{"__proto__":{"polluted":true},"by":1,"note":"x"}', ',"__proto__":{"polluted":true}'),
  event("null", ',"pos":9007199254740993,"ms":5'),
  event('"\\ud800"'),
  '{"id":"../../../etc","ts":1,"type":"item"}\n{"id":"x","ts":1,"type":"../.."}\n{"id":"__proto__","ts":1,"type":"__proto__"}\n',
  sealed(`{"state":${deep},"position":3`),
  sealed('{"state":{"__proto__":{"polluted":true}},"position":3,"fingerprint":"x","bookmark":{"__proto__":1}'),
  sealed('{"state":1,"position":9007199254740993'),
  sealed("not JSON"),
  `{"state":${deep},"cursors":{"item/../../x":{"offset":1},"__proto__":{"offset":1}}}`,
  record(""),
  record("no section"),
  record('{"stream":"../../outside/x","version":1,"at":0,"events":1,"bytes":5}\nabcd\n'),
  record('{"stream":"item/..","version":1,"at":0,"events":1,"bytes":5}\nabcd\n'),
  record('{"stream":"item/a","version":1,"at":0,"events":1,"bytes":99999}\nabcd\n'),
  record('{"stream":"item/a","version":9999999999999999,"at":9999999999999999,"events":1,"bytes":5}\nabcd\n'),
  record(`{"stream":"item/a","version":1,"at":0,"events":1,"bytes":${event(deep).length}}\n${event(deep)}`),
  record('{"stream":"item/a'),
  record('{"stream":"item/\\u00', 1, 0),
  record(consumer(deep), 1, 0),
  record(consumer('{"note":{"__proto__":{"polluted":true}},"deadLetters":5}\n'), 1, 0),
  record(consumer('{"note":{},"deadLetters":[{"key":"__proto__","letter":{"__proto__":{"polluted":true}}}]}\n'), 1, 0),
  record(consumer("{}\n", 0), 1, 0),
  record(
    '{"manager":"../../outside","sequence":1,"bytes":49}\n{"note":{},"deadLetters":[{"key":"k","letter":{}}]}\n',
    1,
    0,
  ),
];

/** Uses a store that has this content in one file, in every way. Returns the problems. */
async function use(path: string, content: Uint8Array, image: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const damaged = withFile(image, path, content);
  await observeItems(diskOf(damaged));
  const disk = diskOf(damaged);
  for (const work of [verify, repair]) {
    try {
      await work(STORE, { fileSystem: disk });
    } catch (error) {
      if (!isEventfoldError(error)) throw error;
    }
  }
  await observeItems(disk);
  expect([...imageOf(disk).keys()].filter((file) => !file.startsWith(`${STORE}/`))).toEqual([]);
  expect(({} as { readonly polluted?: unknown }).polluted).toBeUndefined();
}

describe.each(Object.entries(FILES))("%s with any content", (_, path) => {
  test("leads to an error of ours or to the right data", async () => {
    const image = await itemStore();
    for (const content of HOSTILE) await use(path, Buffer.from(content), image);
    await use(path, Buffer.from([0xff, 0xfe, 0x0a, 0xc3, 0x28, 0x0a]), image);
    const original = image.get(path) ?? new Uint8Array();
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 400 }),
      // A part of the file is replaced.
      fc
        .tuple(fc.nat(original.length), fc.nat(60), fc.uint8Array({ maxLength: 60 }))
        .map(([at, length, piece]) => Buffer.concat([original.subarray(0, at), piece, original.subarray(at + length)])),
      // Parts of it occur twice, or in another order.
      fc
        .tuple(fc.nat(original.length), fc.nat(original.length))
        .map(([a, b]) => Buffer.concat([original.subarray(0, a), original.subarray(b)])),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (content) => use(path, content, image)),
      { numRuns: 25 },
    );
  });
});
