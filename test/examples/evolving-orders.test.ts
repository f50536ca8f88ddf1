import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { AggregateStore, checkReplay } from "eventfold-es";
import { auditStore } from "eventfold-es/schema";
import { expect, test } from "vitest";
import { ThirdOrder } from "../../examples/evolving-orders/generations/third.ts";
import { Order, Shipments } from "../../examples/evolving-orders/order.ts";
import { writeFixtures } from "../../examples/evolving-orders/write-fixtures.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const example = fileURLToPath(new URL("../../examples/evolving-orders/", import.meta.url));
const stream = (id: string): string => `streams/order/${id}/app.jsonl`;

test("example: the fourth generation reads what the first three have written", async () => {
  const directory = `${temporaryDirectory()}/orders`;
  const run = async (): Promise<string> =>
    (
      await promisify(execFile)(
        process.execPath,
        ["--import", "tsx", "--conditions=eventfold-es-source", `${example}main.ts`, directory],
        { cwd: fileURLToPath(new URL("../..", import.meta.url)) },
      )
    ).stdout;
  const printed = await run();
  const readme = readFileSync(`${example}README.md`, "utf8");
  expect(printed).toContain(/```text\n(.*?)\n```/s.exec(readme)?.[1] ?? "no block");
  expect(printed).toContain('Shipments of all generations: {"bike":1,"van":1}');
  expect(printed).toContain("What changed the amount due for tea, the newest first: Paid, Placed");
  expect(printed).toContain("Events that the model cannot read: 0");
  expect(await run()).toBe(printed);
});

test("example: the fixtures are what the first three generations write", async () => {
  const directory = temporaryDirectory();
  await writeFixtures(directory);
  for (const id of ["tea", "breakfast", "soap"])
    expect(readFileSync(`${directory}/${stream(id)}`, "utf8"), id).toBe(
      readFileSync(`${example}fixtures/${stream(id)}`, "utf8"),
    );

  // The third generation without the history of the fourth cannot read what the fourth writes.
  await using store = await AggregateStore.builder(directory).aggregate(Order).projection(Shipments).open();
  await store.dispatch(Order.at("soap").Ship({ carrier: "bike", tracking: "42" }));
  expect(await store.projection(Shipments)).toEqual({ bike: 2, van: 1 });
  expect((await collect(store.events({ aggregates: [Order], types: ["Shipped"] }))).map(({ data }) => data)).toEqual([
    { carrier: "bike", tracking: "unknown" },
    { carrier: "van", tracking: "unknown" },
    { carrier: "bike", tracking: "42" },
  ]);
  expect(await checkReplay(store, [Order, Shipments])).toEqual([]);
  expect(await auditStore(store, [ThirdOrder])).toMatchObject([
    { event: "Shipped", kind: "newer", count: 1, position: 8 },
  ]);
});
