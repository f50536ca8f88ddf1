import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, CommandBus } from "eventfold-es";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createViteServer } from "vitest/node";
import type * as keptModule from "../support/hot/kept.ts";
import type * as modelModule from "../support/hot/model.ts";
import type * as naiveModule from "../support/hot/naive.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

let server: Awaited<ReturnType<typeof createViteServer>>;
beforeAll(async () => {
  server = await createViteServer({
    configFile: false,
    root: new URL("../support/hot", import.meta.url).pathname,
    server: { middlewareMode: true, watch: null, ws: false },
    optimizeDeps: { noDiscovery: true },
    appType: "custom",
    ssr: { noExternal: [/^eventfold-es/], resolve: { conditions: ["eventfold-es-source"] } },
    resolve: { conditions: ["eventfold-es-source"] },
    logLevel: "silent",
  });
});
afterAll(() => server.close());

/** Evaluates a module, and all that it imports, the package too, as after a change of each file. */
async function evaluate<T>(file: string): Promise<T> {
  server.moduleGraph.invalidateAll();
  return (await server.ssrLoadModule(`/${file}`)) as T;
}

function inDirectory(): string {
  const directory = temporaryDirectory();
  Object.assign(globalThis, { hotDirectory: directory, lamps: undefined });
  return directory;
}

function warnings(): string[] {
  const found: string[] = [];
  const listener = ({ name, message }: Error): void => void found.push(`${name}: ${message}`);
  process.on("warning", listener);
  onTestFinished(() => void process.off("warning", listener));
  return found;
}

test("a module that opens a store and is evaluated twice is warned about, and its subscriptions are not doubled", async () => {
  inDirectory();
  const found = warnings();
  const first = await evaluate<typeof naiveModule>("naive.ts");
  onTestFinished(() => first.store.close());
  first.store.subscribe({ name: "mailer" }, () => {});
  const second = await evaluate<typeof naiveModule>("naive.ts");
  onTestFinished(() => second.store.close());
  expect(second.store).not.toBe(first.store);
  await expect.poll(() => found).toHaveLength(1);
  expect(found[0]).toMatch(/^EventfoldWarning: .*process manager watchman.*hot reload, close the store/i);
  expect(() => second.store.subscribe({ name: "mailer" }, () => {})).toThrow(
    expect.objectContaining({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("After a hot reload") as string,
    }),
  );
  await first.store.close();
  second.store.subscribe({ name: "mailer" }, () => {});
  // The store works all the same.
  expect((await second.store.dispatch(second.Lamp.at("a").Light())).state).toEqual({ on: true });
});

test("two stores of one directory are known as such when one of them is opened through a symbolic link", async () => {
  const directory = temporaryDirectory();
  const link = path.join(temporaryDirectory(), "link");
  fs.symlinkSync(directory, link);
  const found = warnings();
  const [old, next] = [await evaluate<typeof modelModule>("model.ts"), await evaluate<typeof modelModule>("model.ts")];
  await using first = await AggregateStore.builder(directory).aggregate(old.Lamp).processManager(old.Watchman).open();
  await using second = await AggregateStore.builder(link).aggregate(next.Lamp).processManager(next.Watchman).open();
  await expect.poll(() => found).toHaveLength(1);
  first.subscribe({ name: "mailer" }, () => {});
  expect(() => second.subscribe({ name: "mailer" }, () => {})).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT" }),
  );
});

test("a module that closes the store of its last evaluation works, as the guide shows", async () => {
  inDirectory();
  const found = warnings();
  for (let round = 1; round <= 3; round++) {
    const { store, Lamp } = await evaluate<typeof keptModule>("kept.ts");
    store.subscribe({ name: "mailer" }, () => {});
    await store.dispatch(Lamp.at(`lamp-${round}`).Light());
    expect(await store.list(Lamp)).toHaveLength(round);
  }
  await (await evaluate<typeof keptModule>("kept.ts")).store.close();
  expect(found).toEqual([]);
});

test("a definition that was made again names the hot reload as the cause", async () => {
  const directory = temporaryDirectory();
  const first = await evaluate<typeof modelModule>("model.ts");
  const second = await evaluate<typeof modelModule>("model.ts");
  await using store = await AggregateStore.builder(directory).aggregate(first.Lamp).open();
  const error = expect.objectContaining({
    code: "DUPLICATE_DEFINITION",
    message: expect.stringContaining("If a hot reload has evaluated its module again, close the store") as string,
  });
  expect(() => store.get(second.Lamp, "a")).toThrow(error);
  expect(() => new CommandBus(store).register(first.Lamp).register(second.Lamp as never)).toThrow(error);
});

test("two stores of one process on one directory with the same definitions are two processes to each other", async () => {
  const directory = temporaryDirectory();
  const found = warnings();
  const { Lamp, Watchman } = await evaluate<typeof modelModule>("model.ts");
  const builder = AggregateStore.builder(directory).aggregate(Lamp).processManager(Watchman);
  await using first = await builder.open();
  await using second = await builder.open();
  await first.dispatch(Lamp.at("a").Light());
  expect(await second.get(Lamp, "a").state()).toEqual({ on: true });
  expect(found).toEqual([]);
});
