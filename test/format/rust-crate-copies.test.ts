import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { crateCursor } from "../support/rust-crate.ts";
import { AggregateStore, restore } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { collect } from "../support/collect.ts";
import { crateLine } from "../support/rust-crate.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";

const open = (directory: string) =>
  AggregateStore.builder(directory)
    .aggregate(Purse)
    .aggregate(Transfer)
    .processManager(Transfers)
    .processManagerMode("manual")
    .open();

const LETTER = (n: number): string =>
  `{"envelope":{"aggregate_type":"purse","instance_id":"ada","command":{"type":"Take","data":{"amount":${n}}},"context":{"actor":null,"correlation_id":null,"metadata":null}},"error":"no","ts":1700000000}\n`;

/** A directory as the Rust crate leaves it: blank lines, ids with slashes, dead letters and a process manager's checkpoint. */
function writeAsTheCrate(directory: string): void {
  const write = (file: string, text: string): void => {
    fs.mkdirSync(path.join(directory, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(directory, file), text);
  };
  const lines = crateLine(1, "Filled") + "\n" + crateLine(2, "Filled");
  write("streams/purse/ada/app.jsonl", lines);
  write("streams/purse/p/q/app.jsonl", crateLine(3, "Filled"));
  write("streams/purse/with: colon/app.jsonl", crateLine(4, "Filled"));
  const ids = ["ada", "p/q", "with: colon"];
  write("meta/streams.jsonl", ids.map((id) => `{"id":"${id}","ts":1700000000,"type":"purse"}\n`).join(""));
  write("process_managers/transfers/dead_letters.jsonl", LETTER(1) + LETTER(2));
  const cursors = { "purse/ada": crateCursor(lines) };
  write("process_managers/transfers/checkpoint.json", JSON.stringify({ state: { kept: "yes" }, cursors }));
}

describe("a copy of a directory of the Rust crate", () => {
  test("has its streams, its dead letters, and what its process managers have handled", async () => {
    const base = temporaryDirectory();
    const source = path.join(base, "store");
    writeAsTheCrate(source);
    const store = await open(source);
    const target = path.join(base, "copy");
    await store.backup(target);
    const [first] = await store.deadLetters();
    await store.dropDeadLetter(first?.key ?? "");
    fs.appendFileSync(path.join(source, "process_managers/transfers/dead_letters.jsonl"), LETTER(3));
    fs.appendFileSync(path.join(source, "streams/purse/ada/app.jsonl"), crateLine(5, "Filled"));
    await store.readEvents("purse", "ada")[Symbol.asyncIterator]().next();
    await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 1 } });
    await store.backup(target, { incremental: true });
    await restore(source, path.join(base, "restored"));
    for (const directory of [target, path.join(base, "restored")]) {
      const { findings } = await verify(directory);
      expect(findings.filter(({ severity }) => severity !== "info")).toEqual([]);
      const copy = await open(directory);
      expect(await collect(copy.events())).toEqual(await collect(store.events()));
      expect(await copy.listStreams()).toEqual(await store.listStreams());
      expect(await copy.deadLetters()).toEqual(await store.deadLetters());
      expect(await copy.deadLetters()).toHaveLength(2);
      expect(await copy.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      await copy.close();
    }
    await store.close();
  });
});

test("a copy of reclaimed lines of the Rust crate has its blank lines", async () => {
  const base = temporaryDirectory();
  const source = path.join(base, "store");
  fs.mkdirSync(path.join(source, "streams/purse/ada"), { recursive: true });
  fs.writeFileSync(
    path.join(source, "streams/purse/ada/app.jsonl"),
    crateLine(1, "Filled") + "\n" + crateLine(2, "Filled"),
  );
  const store = await AggregateStore.builder(source).aggregate(Purse).open();
  await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 1 } });
  await store.delete(Purse, "ada");
  await store.reclaim();
  await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 2 } });
  await store.backup(path.join(base, "copy"));
  await restore(source, path.join(base, "restored"));
  await store.close();
  for (const name of ["copy", "restored"]) {
    const copy = path.join(base, name);
    expect(fs.readFileSync(path.join(copy, "streams/purse/ada/app.jsonl")).includes(0)).toBe(false);
    expect((await verify(copy)).findings.filter(({ severity }) => severity !== "info")).toEqual([]);
  }
});
