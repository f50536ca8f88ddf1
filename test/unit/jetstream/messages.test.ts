import { expect, test } from "vitest";
import { commitText, headerText, MalformedBatch, parseBatch } from "../../../src/jetstream/message/batch-message.ts";
import { readDocument } from "../../docs/documentation.ts";

const { text } = readDocument("docs/format.md");
const section = /## Messages of JetStream\n([^]*?)\n## /.exec(text)?.[1] ?? "";
const example = /<!-- message -->\n```jsonl\n([^]*?)\n```/.exec(section)?.[1] ?? "";

/** The keys of our own objects in a line, without those of payloads, metadata, notes and letters. */
function keysOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) => [key, ...(key === "manager" ? keysOf(inner) : [])]);
}

test("the message in docs/format.md is one that the store reads and writes", () => {
  const { contents, ...header } = parseBatch(example);
  expect(contents).toHaveLength(2);
  expect(headerText(header) + contents.map(commitText).join("")).toBe(example);
});

test("docs/format.md describes each key of a message", () => {
  const full = commitText({
    appends: [
      {
        stream: { type: "counter", id: "a" },
        expectedVersion: 3,
        events: [
          {
            type: "A",
            data: "{}",
            schemaVersion: 1,
            timestamp: 1,
            eventId: "e",
            actor: "u",
            meta: { source: "phone" },
          },
        ],
      },
    ],
    consumer: { name: "pm", expectedSequence: 0, note: 1, deadLetters: [], settledLetters: [] },
  });
  const [, commit = "", fields = ""] = full.split("\n");
  const header = headerText({ batch: "b", after: null, position: 0, commits: 1 });
  const keys = [header, commit, fields].flatMap((line) => keysOf(JSON.parse(line)));
  expect(keys.length).toBeGreaterThan(15);
  for (const key of keys) expect(section).toMatch(new RegExp(`^\\|[^|]*\`${key}\``, "m"));
});

test("a message that is cut off or continued anywhere is none", () => {
  for (let length = 0; length < example.length; length++)
    if (!isWholePayload(length)) expect(() => parseBatch(example.slice(0, length))).toThrow(MalformedBatch);
  expect(() => parseBatch(`${example}\n{}`)).toThrow(MalformedBatch);
});

/** The last payload is text that is not parsed. */
function isWholePayload(length: number): boolean {
  return length > example.lastIndexOf("\n") + 1;
}
