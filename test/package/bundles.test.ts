import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { EXPECTED } from "../support/whole-program.ts";
import { bun, bundlers } from "./bundlers.ts";
import { projectWithPackage, putAsJavaScript, ROOT } from "./installed-package.ts";

const NATIVE = ["koffi", "@koromix"];

describe("a program in a bundle, moved to another directory", () => {
  let project: string;
  let remove = (): void => {};

  beforeAll(() => {
    ({ project, remove } = projectWithPackage());
    putAsJavaScript("test/support/whole-program.ts", path.join(project, "whole-program.mjs"), "esm");
    fs.copyFileSync(path.join(ROOT, "test/package/projects/bundled-program.mjs"), path.join(project, "program.mjs"));
  });

  afterAll(() => remove());

  /** Runs it while the project that it was made of is not there. */
  function run(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const hidden = `${project}-hidden`;
    fs.renameSync(project, hidden);
    try {
      const [program = "", ...args] = command;
      const options = { cwd: temporaryDirectory(), encoding: "utf8", env: { ...process.env, ...env } } as const;
      const { stdout, stderr } = spawnSync(program, [...args, temporaryDirectory()], options);
      return { result: stdout === "" ? undefined : (JSON.parse(stdout) as unknown), stderr };
    } finally {
      fs.renameSync(hidden, project);
    }
  }

  function putNative(target: string): void {
    for (const name of NATIVE)
      fs.cpSync(path.join(ROOT, "node_modules", name), path.join(target, "node_modules", name), { recursive: true });
  }

  /** Bundles, and moves what came of it. */
  async function moved(bundle: (typeof bundlers)[number]["bundle"]) {
    const built = path.join(temporaryDirectory(), "build");
    const target = path.join(temporaryDirectory(), "elsewhere");
    fs.mkdirSync(built);
    const command = await bundle(project, built);
    fs.renameSync(built, target);
    return { target, command: command.map((part) => part.replace(built, target)) };
  }

  test.each(bundlers)("made by $name works with koffi beside it", async ({ bundle }) => {
    const { target, command } = await moved(bundle);
    putNative(target);
    const { result, stderr } = run(command);
    expect(result, stderr).toMatchObject(EXPECTED);
  });

  test.skipIf(bun === undefined)("made by bun build --compile needs nothing beside it", async () => {
    const { command } = await moved(async (from, target) => {
      const outfile = path.join(target, "app");
      execFileSync(
        bun as string,
        ["build", "--compile", "--minify", path.join(from, "program.mjs"), "--outfile", outfile],
        {
          cwd: from,
          stdio: "ignore",
        },
      );
      return [outfile];
    });
    const { result, stderr } = run(command);
    expect(result, stderr).toMatchObject(EXPECTED);
  });

  test("in an archive of Electron's works with koffi unpacked beside it", () => {
    const resources = temporaryDirectory();
    const archive = path.join(resources, "app.asar");
    fs.cpSync(project, archive, { recursive: true });
    for (const name of NATIVE) {
      const from = path.join(archive, "node_modules", name);
      const to = path.join(resources, "app.asar.unpacked/node_modules", name);
      fs.mkdirSync(path.dirname(to), { recursive: true });
      fs.renameSync(from, to);
      // Electron shows what is unpacked in the archive as well, but the system cannot load a native file from there.
      fs.cpSync(to, from, { recursive: true, filter: (file) => !file.endsWith(".node") });
    }
    const { result, stderr } = run([process.execPath, path.join(archive, "program.mjs")]);
    expect(result, stderr).toMatchObject(EXPECTED);
  });

  describe("finds koffi", () => {
    const esbuilt = bundlers.find(({ name }) => name.includes("esm")) as (typeof bundlers)[number];

    test("through EVENTFOLD_KOFFI: a directory with node_modules, the package, or the native file", async () => {
      const { command } = await moved(esbuilt.bundle);
      const place = temporaryDirectory();
      putNative(place);
      const platform = `${process.platform}-${process.arch}`;
      const natives = fs
        .readdirSync(path.join(place, `node_modules/@koromix/koffi-${platform}`), { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(`${process.platform}_${process.arch}/koffi.node`));
      const native = path.join(place, `node_modules/@koromix/koffi-${platform}`, natives[0] ?? "");
      for (const value of [place, path.join(place, "node_modules/koffi"), native]) {
        const { result, stderr } = run(command, { EVENTFOLD_KOFFI: value });
        expect(result, stderr).toMatchObject(EXPECTED);
      }
    });

    test("as its native package alone, or as the file koffi.node", async () => {
      const { target, command } = await moved(esbuilt.bundle);
      const platform = `koffi-${process.platform}-${process.arch}`;
      const from = path.join(ROOT, "node_modules/@koromix", platform);
      fs.cpSync(from, path.join(target, "node_modules/@koromix", platform), { recursive: true });
      expect(run(command).result).toMatchObject(EXPECTED);
      const native = fs
        .readdirSync(from, { recursive: true, encoding: "utf8" })
        .find((file) => file.endsWith("koffi.node"));
      fs.rmSync(path.join(target, "node_modules"), { recursive: true });
      fs.copyFileSync(path.join(from, native ?? ""), path.join(target, "koffi.node"));
      expect(run(command).result).toMatchObject(EXPECTED);
    });

    test("never in the working directory, and says what to do when it is nowhere", async () => {
      const { command } = await moved(esbuilt.bundle);
      const trap = temporaryDirectory();
      fs.mkdirSync(path.join(trap, "node_modules/koffi"), { recursive: true });
      fs.writeFileSync(path.join(trap, "node_modules/koffi/index.js"), "throw new Error('the trap was loaded')");
      const [program = "", ...args] = command;
      fs.renameSync(project, `${project}-hidden`);
      const { status, stderr } = spawnSync(program, [...args, temporaryDirectory()], { cwd: trap, encoding: "utf8" });
      fs.renameSync(`${project}-hidden`, project);
      expect(status).toBe(1);
      expect(stderr).toContain("LOCKS_UNSUPPORTED: expected the package koffi");
      expect(stderr).toContain("node_modules/koffi and node_modules/@koromix beside it");
      expect(stderr).toContain("EVENTFOLD_KOFFI");
      expect(stderr).not.toContain("trap");
    });
  });
});
