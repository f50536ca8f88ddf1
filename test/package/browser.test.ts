import { readFileSync } from "node:fs";
import { build, type BuildResult } from "esbuild";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium, launchChromium } from "../support/chromium.ts";

const root = new URL("../..", import.meta.url).pathname;
const program = `${root}/test/support/browser-program.ts`;

interface Bundle {
  readonly code: string;
  /** The files in it, from the project's directory on. */
  readonly files: readonly string[];
}

/** Bundles for a browser, with nothing left outside. Fails if something is missing there, e.g. a module of Node.js. */
async function bundle(source: { readonly file: string } | { readonly text: string }): Promise<Bundle> {
  const entry =
    "file" in source ? { entryPoints: [source.file] } : { stdin: { contents: source.text, resolveDir: root } };
  const result: BuildResult<{ write: false; metafile: true }> = await build({
    ...entry,
    absWorkingDir: root,
    bundle: true,
    platform: "browser",
    format: "esm",
    conditions: ["eventfold-es-source"],
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  return { code: result.outputFiles[0]?.text ?? "", files: Object.keys(result.metafile.inputs) };
}

describe("a bundle for a browser", () => {
  test("has a store in memory, and no module of Node.js", async () => {
    const { code, files } = await bundle({ file: program });
    expect(files).toContain("src/event-store/memory-event-store.ts");
    expect(files.filter((file) => /^src\/(file-store|fs|doctor)\/|node_modules/.test(file))).toEqual([]);
    expect(code).not.toMatch(/\b(import|from|require)\b[^;\n]*["']node:/);
  });

  test("of a contract has nothing of stores", async () => {
    const { files } = await bundle({
      text: `
        import { aggregate, data } from "eventfold-es/contract";
        export const Jar = aggregate("jar", { initial: 0, events: { Filled: data() }, commands: { Fill: data() } });`,
    });
    expect(files).toContain("src/aggregate/aggregate.ts");
    // The rooms of stores are folders; what all rooms share is beside them.
    const other = files.filter((file) => !/^(<stdin>|src\/(?!index\.)[^/]+|src\/aggregate\/[^/]+)$/.test(file));
    expect(other).toEqual([]);
  });

  test("cannot be made of what needs files", async () => {
    await expect(bundle({ text: `export { openNodeFileSystem } from "eventfold-es/testing";` })).rejects.toThrow(
      /Could not resolve "node:fs"/,
    );
  });
});

describe("package.json", () => {
  test("names the same files in its sources and in its build", () => {
    const { exports, imports } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as Record<string, unknown>;
    const pairs = [...targets(exports), ...targets(imports)];
    expect(pairs.length).toBeGreaterThan(3);
    for (const { source, built } of pairs) expect(built).toBe(source.replace(/^\.\/src\/(.*)\.ts$/, "./dist/$1.js"));
  });
});

/** The file of the sources and the file of the build for each target of `exports` or `imports`. */
function targets(value: unknown): { readonly source: string; readonly built: string }[] {
  if (typeof value !== "object" || value === null) return [];
  const { "eventfold-es-source": source, default: built } = value as Record<string, unknown>;
  const here = typeof source === "string" ? [{ source, built: String(built) }] : [];
  return [...here, ...Object.values(value).flatMap(targets)];
}

describe("in a browser", () => {
  const executable = findChromium();
  let browser: Browser | undefined;
  beforeAll(async () => {
    if (executable !== undefined) browser = await launchChromium(executable);
  });
  afterAll(() => browser?.close());

  test.for([
    ["a secure page", "http://localhost/", true],
    ["a page that is not secure", "http://store.example/", false],
  ] as const)("a store in memory works on %s", async ([, url, isSecure], { skip }) => {
    if (browser === undefined) {
      const missing = "no Chromium was found in PATH; install it, e.g. with `apt-get install chromium`";
      if (process.env["CI"] !== undefined) throw new Error(missing);
      return skip(missing);
    }
    const { code } = await bundle({ file: program });
    const page = await browser.newPage();
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    // Answered here: nothing leaves the browser.
    await page.route("**/*", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
    await page.goto(url);
    await page.addScriptTag({ content: code, type: "module" });
    await page.waitForFunction("globalThis.findings !== undefined");
    const findings = await page.evaluate("globalThis.findings");
    expect(problems).toEqual([]);
    expect(await page.evaluate("[isSecureContext, typeof setImmediate, typeof process]")).toEqual([
      isSecure,
      "undefined",
      "undefined",
    ]);
    expect(findings).toEqual({
      eventId: expect.stringMatching(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/) as string,
      state: { balance: 100 },
      rejected: { ok: false, rejection: { type: "InsufficientFunds", data: { balance: 100 } } },
      total: 80,
      types: ["Deposited ada", expect.stringMatching(/^(Deposited savings|Withdrawn ada)$/) as string],
      again: { balance: 10 },
      closed: "STORE_CLOSED",
      directory: "INVALID_ARGUMENT",
    });
    await page.close();
  });
});
