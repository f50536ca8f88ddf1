import { AggregateStore } from "eventfold-es";
import { expect, test } from "vitest";
import { Counter } from "../support/counter.ts";
import { Sink, taken } from "../support/relay.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Worker } from "../support/worker.ts";

/** Runs a script to its natural end. Returns the numbers that two of its instances have. */
async function run(directory: string, script: string) {
  const worker = new Worker("script-worker.ts", { directory, script });
  expect(await worker.line()).toBe("end");
  expect(await worker.exited).toBe(0);
  expect(worker.errors).toBe("");
  await using store = await AggregateStore.builder(directory).aggregate(Counter).aggregate(Sink).open();
  const [now, later, a] = await Promise.all(["now", "later", "a"].map((id) => taken(store, id)));
  return { now, later, a };
}

test("a script that does not close its store lives until its scheduled commands are sent, and then ends", async () => {
  expect(await run(temporaryDirectory(), "schedule")).toEqual({ now: [300], later: [300], a: [] });
});

test("a script that only opens a store lives until the commands that another process has scheduled are sent", async () => {
  const directory = temporaryDirectory();
  const scheduling = new Worker("script-worker.ts", { directory, script: "schedule" });
  expect(await scheduling.line()).toBe("end");
  await scheduling.kill();
  expect((await run(directory, "wait")).later).toEqual([300]);
});

test("a script that does not close its store lives until the reactions to its events are carried out, and then ends", async () => {
  expect(await run(temporaryDirectory(), "dispatch")).toEqual({ now: [], later: [], a: [1] });
});

test("a script that has nothing left to do ends without closing its store", async () => {
  expect(await run(temporaryDirectory(), "wait")).toEqual({ now: [], later: [], a: [] });
});

test("a script that waits for idle and closes leaves no reaction for the next one", async () => {
  expect((await run(temporaryDirectory(), "dispatch, idle and close")).a).toEqual([1]);
});

test("a script that closes at once leaves no event without its reaction for ever", async () => {
  const directory = temporaryDirectory();
  await run(directory, "dispatch and close");
  expect((await run(directory, "wait")).a).toEqual([1]);
});

test("a subscription with a handler keeps its script alive until it ends", async () => {
  expect((await run(temporaryDirectory(), "subscribe")).a).toEqual([1]);
});
