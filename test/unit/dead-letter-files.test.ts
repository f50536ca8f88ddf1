import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { storePaths } from "../../src/file-store/disk/store-paths.ts";
import { DeadLetterFiles } from "../../src/file-store/progress/dead-letter-files.ts";
import { linesOf, oneTo } from "../support/store-files.ts";
import { TalliedFileSystem } from "../support/tallied-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const MANY = 2000;
const letter = (n: number) => ({ key: `m/${n}`, letter: { error: `failed ${n}`, manager: "m" } });
const dead = (n: number) => [{ name: "m", sequence: n, note: {}, deadLetters: [letter(n)] }];
const settled = (n: number) => [{ name: "m", sequence: n, note: {}, settledLetters: [`m/${n}`] }];

const lettersOf = (files: DeadLetterFiles) => [...files.read("m").values()];

async function setUp() {
  const tallied = await TalliedFileSystem.create();
  const directory = temporaryDirectory();
  const open = () => new DeadLetterFiles(tallied.fileSystem, storePaths(directory));
  return { tallied, open, file: path.join(directory, "process_managers/m/dead_letters.jsonl") };
}

test("the bytes that are read and written for dead letters are proportional to their number", async () => {
  const { tallied, open, file } = await setUp();
  const files = open();
  const written = await tallied.during(async () => {
    for (const n of oneTo(MANY)) files.apply(dead(n));
  });
  const { size } = fs.statSync(file);
  expect(linesOf(file)).toHaveLength(MANY);
  expect(written.bytesWritten).toBe(size);
  expect(written.bytesRead).toBeLessThan(MANY * 1024);
  const gone = await tallied.during(async () => {
    for (const n of oneTo(MANY)) {
      expect(files.read("m").size).toBeGreaterThan(0);
      files.apply(settled(n));
    }
  });
  expect(gone.bytesWritten).toBeLessThan(1.1 * size);
  expect(gone.bytesRead).toBeLessThan(MANY * 1024);
  expect(linesOf(file)).toEqual([]);
});

test("applying the same notes again changes nothing, and the last line of a key counts", async () => {
  const { open, file } = await setUp();
  const changed = [{ ...dead(1)[0]!, deadLetters: [{ key: "m/1", letter: { error: "again" } }] }];
  const notes = [dead(1), dead(2), changed, dead(3)];
  for (const note of notes) open().apply(note);
  const expected = [letter(2), { key: "m/1", letter: { error: "again" } }, letter(3)];
  expect(lettersOf(open())).toEqual(expected);
  for (const files of [open(), open()]) for (const note of notes.slice(3)) files.apply(note);
  expect(lettersOf(open())).toEqual(expected);
  expect(linesOf(file)).toHaveLength(4);
});

test("a process notices what another one has appended, or removed", async () => {
  const { open } = await setUp();
  const [one, two] = [open(), open()];
  one.apply(dead(1));
  two.apply(dead(2));
  one.apply(dead(3));
  expect(lettersOf(two)).toEqual([1, 2, 3].map(letter));
  one.apply(settled(1));
  one.apply(settled(2));
  expect(lettersOf(two)).toEqual([letter(3)]);
});

test("a letter that a crash has torn is written again in its place, wherever it is torn", async () => {
  const { open, file } = await setUp();
  open().apply(dead(1));
  const before = fs.statSync(file).size;
  const both = [{ ...dead(2)[0]!, deadLetters: [letter(2), letter(3)] }];
  open().apply(both);
  const whole = fs.readFileSync(file);
  for (let end = before; end <= whole.length; end += 3) {
    fs.writeFileSync(file, whole.subarray(0, end));
    open().apply(both);
    expect(fs.readFileSync(file)).toEqual(whole);
    // A part that did not reach the disk is zero.
    fs.writeFileSync(file, Buffer.from(whole).fill(0, end - 10 < before ? before : end - 10, end));
    const files = open();
    files.apply(both);
    expect(fs.readFileSync(file)).toEqual(whole);
    expect(lettersOf(files)).toEqual([1, 2, 3].map(letter));
  }
});

test("what the Rust crate left unfinished at the end stays", async () => {
  const { open, file } = await setUp();
  open().apply(dead(1));
  fs.appendFileSync(file, '{"envelope":{"agg');
  open().apply(dead(2));
  expect(linesOf(file)).toHaveLength(3);
  expect(lettersOf(open())).toMatchObject([letter(1), { letter: { unreadable: '{"envelope":{"agg' } }, letter(2)]);
});
