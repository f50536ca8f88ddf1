/**
 * `npm run bench`: measures the lines of the contract and the growth curves, and replaces bench/results.md, bench/data/
 * and docs/images/. The options are in bench/README.md.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { chart } from "./curves/chart.ts";
import type { MeasuredCurve } from "./curves/curve.ts";
import { CURVES } from "./curves/curves.ts";
import { measureCurve } from "./curves/measure-curve.ts";
import { installPeers } from "./install-peers.ts";
import { commandLines } from "./lines/commands.ts";
import type { Line } from "./lines/line.ts";
import { packageLines } from "./lines/package.ts";
import { processLines } from "./lines/processes.ts";
import { readingLines } from "./lines/reading.ts";
import { storeLines } from "./lines/stores.ts";
import { describeLoad, describeMachine } from "./machine.ts";
import { type Finished, report } from "./report.ts";
import { Run } from "./run.ts";

const LINES: readonly Line[] = [...commandLines, ...readingLines, ...storeLines, ...processLines, ...packageLines].sort(
  (a, b) => a.number - b.number,
);

/** Where the documentation has the table of results. */
const PUBLISHED_TABLE = /(<!-- results: begin -->)[^]*?(<!-- results: end -->)/;

/** Places are seen from the compiled file. */
const place = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    curves: { type: "string" },
    rounds: { type: "string" },
    fresh: { type: "boolean", default: false },
    "all-peers": { type: "boolean", default: false },
    publish: { type: "boolean", default: false },
  },
});

await measureAll();

async function measureAll(): Promise<void> {
  // A quick run measures other sizes, so it is not published without --publish.
  const isPublished = options.publish || !options.quick;
  const isWhole = options.only === undefined && options.curves === undefined;
  const data = place(".data");
  mkdirSync(data, { recursive: true });
  installPeers(place("."));
  useBuild(`${data}/package`);
  const run = new Run({
    quick: options.quick,
    rounds: Number(options.rounds ?? (options.quick ? 2 : 5)),
    data,
    fresh: options.fresh || (isWhole && !options.quick),
    allPeers: options["all-peers"] || !options.quick,
  });
  const machine = describeMachine(data);
  const loads = [describeLoad()];
  try {
    const lines = LINES.filter(({ number }) => isWhole || options.only?.split(",").includes(String(number)));
    const finished = await measureLines(lines, run);
    loads.push(describeLoad());
    const text = report(finished, run, { machine, loads });
    if (lines.length > 0) process.stdout.write(text);
    if (isWhole && isPublished) writeFileSync(place("results.md"), text);
    const names = options.curves?.split(",");
    const curves = CURVES.filter(({ name }) => isWhole || names?.includes(name) || options.curves === "all");
    await measureCurves(curves, run, machine, isPublished ? place("data") : place(".data/curves"));
    if (isPublished && curves.length > 0) publish();
  } finally {
    run.finish();
  }
}

async function measureLines(lines: readonly Line[], run: Run): Promise<Finished[]> {
  const finished: Finished[] = [];
  for (const line of lines) {
    run.say(`line ${line.number}`);
    try {
      finished.push({ number: line.number, measured: await line.measure(run) });
    } catch (error) {
      // The others are measured all the same.
      process.exitCode = 1;
      console.error(error);
    }
  }
  return finished;
}

async function measureCurves(curves: typeof CURVES, run: Run, machine: string, target: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  for (const curve of curves) {
    try {
      const measured = await measureCurve(curve, run, machine);
      writeFileSync(`${target}/${curve.name}.json`, `${JSON.stringify(measured, undefined, 1)}\n`);
    } catch (error) {
      process.exitCode = 1;
      console.error(error);
    }
  }
}

/** Writes the measurements into the documentation: curves as images, and the table of results. */
function publish(): void {
  const images = place("../docs/images");
  mkdirSync(images, { recursive: true });
  for (const file of readdirSync(place("data"))) {
    const curve = JSON.parse(readFileSync(place(`data/${file}`), "utf8")) as MeasuredCurve;
    writeFileSync(`${images}/${curve.name}.svg`, chart(curve));
  }
  const page = place("../docs/performance.md");
  const [table] = /^\| #.*(?:\n\|.*)+/m.exec(readFileSync(place("results.md"), "utf8")) ?? [];
  if (table === undefined) throw new Error("expected a table in bench/results.md, found none");
  const text = readFileSync(page, "utf8");
  writeFileSync(
    page,
    text.replace(PUBLISHED_TABLE, (_, begin: string, end: string) => `${begin}\n${table}\n${end}`),
  );
}

/** Measures a copy of the package, so that a build in the meantime does not change what one run measures. */
function useBuild(copy: string): void {
  if (process.env["EVENTFOLD_DIST"] !== undefined) return;
  const dist = place("../dist");
  if (!existsSync(`${dist}/index.js`)) throw new Error("expected a build to measure, found none; run `npm run build`");
  cpSync(dist, `${copy}/dist`, { recursive: true, force: true });
  // It says where the package's own imports lead.
  cpSync(place("../package.json"), `${copy}/package.json`);
  process.env["EVENTFOLD_DIST"] = pathToFileURL(`${copy}/dist/`).href;
}
