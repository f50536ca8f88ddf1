import { mkdirSync, writeFileSync } from "node:fs";
import { aggregate, AggregateStore, data, projection } from "eventfold-es";
import { expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Tenfold = aggregate("tenfold", {
  initial: 0,
  events: { Added: data<{ n: number }>().to<{ n: number }>(({ n }) => ({ n: n * 10 })) },
  commands: {},
}).define({ handle: {}, apply: { Added: (sum, { n }) => sum + n } });

const Sum = projection("sum", 0).on(Tenfold, { Added: (sum, { data: { n } }) => sum + n });

/** The payload has its newest shape, as each of these lines says, so its value is 1 and not 10. */
test.each([
  '{"type":"Added","data":{"n":1},"v":1,"ts":1,"ms":0,"pos":1}',
  '{"type":"Added","data":{"n":1},"v" :1,"ts":1,"ms":0,"pos":1}',
  '{"type":"Added","data":{"n":1},"ts":1,"\\u0076":1,"ms":0,"pos":1}',
  '{"type":"Added","data":{"n":1},"ts":1,"v":1,"ms":0,"pos":1 }',
  '{"type":"Added","data":{"n":1},"ts":1,"v":1,"ms":0,"pos": 1}',
  '{"type":"Added","data":{"n":1},"ts":1,"ms":0,"pos":1,"v":1}',
])("keys in another order say the same in the stream and in a log that is made again: %s", async (line) => {
  const directory = temporaryDirectory();
  mkdirSync(`${directory}/streams/tenfold/a`, { recursive: true });
  writeFileSync(`${directory}/streams/tenfold/a/app.jsonl`, `${line}\n`);
  await using store = await AggregateStore.builder(directory).aggregate(Tenfold).projection(Sum).open();
  expect(await store.get(Tenfold, "a").state()).toBe(1);
  expect(await store.projection(Sum)).toBe(1);
  expect((await collect(store.get(Tenfold, "a").events())).map(({ data: { n } }) => n)).toEqual([1]);
});
