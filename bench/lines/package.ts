import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Check, check, difference, middle } from "../compare.ts";
import type { Entry, Result } from "../run.ts";
import { median } from "../statistics.ts";
import type { Sample } from "../tasks/task.ts";
import type { Line } from "./line.ts";

const execute = promisify(execFile);

/** Seen from the compiled file. */
const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** A start of Node.js varies a lot: each round takes the middle of so many. */
const STARTS = 5;

async function starts(...args: readonly string[]): Promise<Sample> {
  const times: number[] = [];
  for (let n = 0; n < STARTS; n++) {
    const started = performance.now();
    await execute(process.execPath, args);
    times.push(performance.now() - started);
  }
  return { ms: median(times) };
}

const starting: Line = {
  number: 13,
  async measure(run) {
    const main = new URL("index.js", process.env["EVENTFOLD_DIST"]).href;
    const { bin = {} } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as { bin?: Record<string, string> };
    const tool = bin["eventfold"];
    const entries: Entry[] = [
      { key: "node", title: "node -e 0", sample: () => starts("-e", "0") },
      {
        key: "import",
        title: 'import "eventfold-es"',
        sample: () => starts("--input-type=module", "-e", `import ${JSON.stringify(main)}`),
      },
    ];
    if (tool !== undefined)
      entries.push({ key: "tool", title: "eventfold --version", sample: () => starts(`${ROOT}${tool}`, "--version") });
    const results = await run.interleave(entries);
    return {
      work: 'start: `import "eventfold-es"`, `eventfold --version`',
      results,
      columns: [{ heading: "ms", metric: "ms" }],
      checks: [
        check("import ≤ 40 ms over `node -e 0`", difference(results, "import", "node", "ms"), { most: 40 }, "ms"),
        check("--version ≤ 100 ms over it", difference(results, "tool", "node", "ms"), { most: 100 }, "ms"),
      ],
      ...(tool === undefined ? { remarks: ["This build has no command-line tool."] } : {}),
    };
  },
};

/** Packages and bytes below a `node_modules`. */
function contents(directory: string): { packages: number; bytes: number } {
  let packages = 0;
  let bytes = 0;
  const walk = (path: string, isPackages: boolean): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const child = `${path}/${entry.name}`;
      if (entry.isFile()) bytes += statSync(child).size;
      else if (entry.isDirectory() && !entry.name.startsWith(".")) {
        if (isPackages && existsSync(`${child}/package.json`)) packages++;
        walk(child, entry.name === "node_modules" || (isPackages && entry.name.startsWith("@")));
      }
    }
  };
  walk(directory, true);
  return { packages, bytes };
}

async function installIn(directory: string): Promise<Sample> {
  mkdirSync(directory, { recursive: true });
  const npm = (...args: readonly string[]): Promise<{ stdout: string }> =>
    execute("npm", [...args, "--silent", "--no-audit", "--no-fund"], { cwd: directory });
  writeFileSync(`${directory}/package.json`, '{ "private": true, "type": "module" }\n');
  const { stdout } = await npm("pack", ROOT);
  const tarball = stdout.trim().split("\n").at(-1) ?? "";
  // Without install scripts: what works then needs no compiler.
  const started = performance.now();
  await npm("install", "--ignore-scripts", `./${tarball}`);
  const ms = performance.now() - started;
  writeFileSync(
    `${directory}/program.js`,
    'import { AggregateStore } from "eventfold-es";\nawait (await AggregateStore.open("./store")).close();\n',
  );
  await execute(process.execPath, ["program.js"], { cwd: directory });
  const { packages, bytes } = contents(`${directory}/node_modules`);
  return { packages, megabytes: bytes / 1e6, ms };
}

const installing: Line = {
  number: 14,
  async measure(run) {
    const results: Result[] = [];
    const key = "ours";
    const title = "eventfold-es, packed and installed without install scripts; a store opens";
    try {
      results.push({ key, title, samples: [await installIn(run.directory())] });
    } catch (error) {
      const problem = `not measured: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`;
      results.push({ key, title, samples: [], problem });
    }
    const opened: Check = {
      target: "no compiler",
      measured: results[0]?.problem === undefined ? "a store opens" : "–",
      met: results[0]?.problem === undefined ? true : undefined,
    };
    return {
      work: "install",
      results,
      columns: [
        { heading: "packages", metric: "packages" },
        { heading: "MB", metric: "megabytes" },
        { heading: "ms", metric: "ms" },
      ],
      checks: [
        check("≤ 6 packages", middle(results, key, "packages"), { most: 6 }, "packages"),
        check("≤ 8 MB", middle(results, key, "megabytes"), { most: 8 }, "MB"),
        opened,
      ],
      elsewhere: "emmett-sqlite 126 packages, 39 MB",
    };
  },
};

export const packageLines: readonly Line[] = [starting, installing];
