import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A Markdown file of the project. */
export interface Document {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
}

export interface CodeBlock {
  /** The info string after the opening fence. */
  readonly language: string;
  readonly code: string;
  /** 1-based line of the first line of code. */
  readonly line: number;
  /** The file that a comment just before the block says it shows: `<!-- file: path -->`. */
  readonly file: string | undefined;
}

export function readDocument(path: string): Document {
  return { path, text: readFileSync(join(ROOT, path), "utf8") };
}

/** The documents that users and contributors read. */
export function documents(): Document[] {
  const top = readdirSync(ROOT).filter((name) => name.endsWith(".md"));
  const docs = readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name.replaceAll("\\", "/")}`);
  return [...top, ...docs].sort().map(readDocument);
}

export function codeBlocks({ text }: Document): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  const pattern = /^(?:<!-- file: (.+) -->\n)?```([^\n`]*)\n([\s\S]*?)^```$/gm;
  for (const match of text.matchAll(pattern)) {
    const [, file, language = "", code = ""] = match;
    const before = text.slice(0, match.index).split("\n").length;
    blocks.push({ language, code, line: before + (file === undefined ? 1 : 2), file });
  }
  return blocks;
}

/** The only block of a document in a language. */
export function onlyBlock(document: Document, language: string): CodeBlock {
  const [block, ...others] = codeBlocks(document).filter((candidate) => candidate.language === language);
  if (block === undefined || others.length > 0)
    throw new Error(`${document.path} should have exactly one block of ${language}`);
  return block;
}

/**
 * Runs a program in a directory as a user would: with the package, and the clients of PostgreSQL and NATS, installed in that directory's
 * `node_modules` (but the package from its sources). Resolves to what it printed.
 */
export async function runProgram(
  code: string,
  directory: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  install("eventfold-es", ROOT, directory);
  install("pg", join(ROOT, "node_modules/pg"), directory);
  install("@nats-io", join(ROOT, "node_modules/@nats-io"), directory);
  install("@opentelemetry", join(ROOT, "node_modules/@opentelemetry"), directory);
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }\n');
  writeFileSync(join(directory, "program.ts"), code);
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", tsx, "--conditions=eventfold-es-source", "program.ts"],
    { cwd: directory, env: { ...process.env, ...environment } },
  );
  return stdout;
}

function install(name: string, source: string, directory: string): void {
  mkdirSync(join(directory, "node_modules"), { recursive: true });
  try {
    symlinkSync(source, join(directory, "node_modules", name), "junction");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
