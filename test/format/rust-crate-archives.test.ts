import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { AggregateStore, aggregate, data, projection } from "eventfold-es";
import { restoreArchives, verify } from "eventfold-es/doctor";
import { collect } from "../support/collect.ts";
import { crateCursor, crateLine } from "../support/rust-crate.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Sum = aggregate("sum", {
  initial: { total: 0 },
  events: { Added: data<{ n: number }>() },
  commands: { Add: data<{ n: number }>() },
}).define({
  handle: { Add: ({ data, emit }) => emit.Added(data) },
  apply: { Added: ({ total }, { n }) => ({ total: total + n }) },
});
const Totals = projection("totals", { total: 0 }).on(Sum, { Added: (s, { data: { n } }) => ({ total: s.total + n }) });
const open = (directory: string) => AggregateStore.builder(directory).aggregate(Sum).projection(Totals).open();

const FIRST = crateLine(1) + crateLine(2);
const SECOND = crateLine(3);
const REST = crateLine(4) + crateLine(5);

function frame(text: string): Buffer {
  return execFileSync("zstd", ["-q", "-c"], { input: text });
}

/** A stream that was rotated twice, a projection that has read on after that, and one that has not. */
function rotated() {
  const directory = path.join(temporaryDirectory(), "store");
  const write = (file: string, content: string | Buffer): void => {
    fs.mkdirSync(path.join(directory, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(directory, file), content);
  };
  write("streams/sum/a/app.jsonl", REST);
  write("streams/sum/a/archive.jsonl.zst", Buffer.concat([frame(FIRST), frame(SECOND)]));
  write("streams/sum/a/views/state.snapshot.json", '{\n  "state": { "total": 6 },\n  "offset": 0,\n  "hash": ""\n}');
  write("streams/sum/b/app.jsonl", crateLine(10));
  const [after, before] = [crateCursor(crateLine(4)), crateCursor(FIRST)];
  const checkpoint = (total: number, cursor: object): string =>
    JSON.stringify({ state: { total }, cursors: { "sum/a": cursor, "sum/b": { offset: 0, hash: "" } } });
  write("projections/totals/checkpoint.json", checkpoint(1 + 2 + 3 + 4, after));
  write("projections/older/checkpoint.json", checkpoint(1 + 2, before));
  const read = (file: string): string => fs.readFileSync(path.join(directory, file), "utf8");
  return { directory, read, before };
}

const hasZstd = spawnSync("zstd", ["--version"]).status === 0;

describe.skipIf(!hasZstd && process.env["CI"] === undefined)("a directory with archives of the Rust crate", () => {
  test("is refused with the way to go, which works for this library and for the crate", async () => {
    const { directory, read, before } = rotated();
    const refusal = { code: "UNSUPPORTED_FORMAT", message: expect.stringContaining("restoreArchives") as string };
    await expect(open(directory)).rejects.toMatchObject(refusal);
    expect((await verify(directory)).findings.map(({ kind }) => kind)).toContain("archived-events");
    const { restored, checkpoints } = await restoreArchives(directory);
    expect(restored).toMatchObject([{ bytes: FIRST.length + SECOND.length }]);
    expect(checkpoints).toEqual([path.join(directory, "projections/totals/checkpoint.json")]);
    // The crate folds all lines again without a snapshot, and its projections go on at their cursors.
    expect(read("streams/sum/a/app.jsonl")).toBe(FIRST + SECOND + REST);
    expect(fs.readdirSync(path.join(directory, "streams/sum/a"))).toEqual(["app.jsonl"]);
    const cursorOf = (name: string): unknown =>
      (JSON.parse(read(`projections/${name}/checkpoint.json`)) as { cursors: Record<string, unknown> }).cursors[
        "sum/a"
      ];
    expect(cursorOf("totals")).toEqual(crateCursor(FIRST + SECOND + crateLine(4)));
    expect(cursorOf("older")).toEqual(before);
    // This library adopts the directory, and the projection counts no event twice.
    await using store = await open(directory);
    expect(await store.get(Sum, "a").state()).toEqual({ total: 15 });
    expect(await store.projection(Totals)).toEqual({ total: 25 });
    expect(await collect(store.events())).toHaveLength(6);
    await store.close();
    expect((await verify(directory)).clean).toBe(true);
  });

  test("is put right by a second run after a first one that was killed at any moment", async () => {
    const names = ["app.jsonl", "archive.jsonl.zst"];
    const joined = rotated();
    const archive = fs.readFileSync(path.join(joined.directory, "streams/sum/a", names[1] ?? ""));
    await restoreArchives(joined.directory);
    // The archive was not removed yet.
    fs.writeFileSync(path.join(joined.directory, "streams/sum/a/archive.jsonl.zst"), archive);
    expect((await restoreArchives(joined.directory)).restored).toMatchObject([{ bytes: 0 }]);
    expect(joined.read("streams/sum/a/app.jsonl")).toBe(FIRST + SECOND + REST);
    // The cursor was moved, and the lines were not joined yet.
    const half = rotated();
    fs.copyFileSync(
      path.join(joined.directory, "projections/totals/checkpoint.json"),
      path.join(half.directory, "projections/totals/checkpoint.json"),
    );
    expect((await restoreArchives(half.directory)).checkpoints).toEqual([]);
    expect(half.read("projections/totals/checkpoint.json")).toBe(joined.read("projections/totals/checkpoint.json"));
    expect((await restoreArchives(half.directory)).restored).toEqual([]);
  });

  test("is left as it is if an archive cannot be read", async () => {
    const { directory, read } = rotated();
    const archive = path.join(directory, "streams/sum/a/archive.jsonl.zst");
    const bytes = fs.readFileSync(archive);
    for (const damaged of [Buffer.from("not zstd"), bytes.subarray(0, bytes.length - 5), frame("half a line")]) {
      fs.writeFileSync(archive, damaged);
      await expect(restoreArchives(directory)).rejects.toMatchObject({ code: "CORRUPT_STREAM" });
      expect(read("streams/sum/a/app.jsonl")).toBe(REST);
    }
    const decompress = async () => Buffer.from(FIRST);
    expect((await restoreArchives(directory, { decompress })).restored).toMatchObject([{ bytes: FIRST.length }]);
    await expect(restoreArchives(`${directory}-x`)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
