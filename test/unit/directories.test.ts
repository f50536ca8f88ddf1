import fs from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { AggregateStore } from "eventfold-es";
import { openNodeFileSystem } from "eventfold-es/testing";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("makeDirectory creates a directory with its missing parents and returns the topmost new one", async () => {
  const base = temporaryDirectory();
  const fileSystem = await openNodeFileSystem();
  expect(fileSystem.makeDirectory(path.join(base, "a/b/c"))).toBe(path.join(base, "a"));
  expect(fileSystem.makeDirectory(path.join(base, "a/b/c"))).toBe(undefined);
  expect(fileSystem.makeDirectory(path.join(base, "a/d"))).toBe(path.join(base, "a/d"));
  expect(fs.statSync(path.join(base, "a/b/c")).isDirectory()).toBe(true);
});

test("makeDirectory throws if it cannot create the directory", async () => {
  const base = temporaryDirectory();
  fs.writeFileSync(path.join(base, "file"), "");
  await expect(AggregateStore.open(path.join(base, "file"))).rejects.toMatchObject({ code: expect.any(String) });
  await expect(AggregateStore.open(path.join(base, "file/below"))).rejects.toMatchObject({ code: expect.any(String) });
});

// Node.js's own recursive mkdir never returns in this case.
test.skipIf(process.platform !== "linux")(
  "makeDirectory throws where only the kernel creates directories",
  async () => {
    await expect(AggregateStore.open("/proc/eventfold-es")).rejects.toMatchObject({ code: expect.any(String) });
  },
);
