import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Compiles the package and the given modules to JavaScript, without type checks. Node.js starts it several times faster
 * than TypeScript through a loader. The directory is inside `node_modules`, so that dependencies are found.
 */
export function compileSources(modules: readonly string[]): {
  readonly directory: string;
  readonly remove: () => void;
} {
  fs.mkdirSync(path.join(ROOT, "node_modules/.cache"), { recursive: true });
  const directory = fs.mkdtempSync(path.join(ROOT, "node_modules/.cache/eventfold-es-"));
  const compilerOptions: ts.CompilerOptions = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2023,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
  };
  const sources = fs.readdirSync(path.join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  for (const file of [...sources.map((source) => path.join("src", source)), ...modules]) {
    if (!file.endsWith(".ts")) continue;
    const target = path.join(directory, file.replace(/\.ts$/, ".js"));
    fs.mkdirSync(path.dirname(target), { recursive: true });
    const code = fs.readFileSync(path.join(ROOT, file), "utf8");
    fs.writeFileSync(target, ts.transpileModule(code, { compilerOptions }).outputText);
  }
  const exports = { ".": "./src/index.js", "./testing": "./src/testing/index.js" };
  const imports = { "#open-directory": "./src/file-store/open-directory.js" };
  fs.writeFileSync(
    path.join(directory, "package.json"),
    JSON.stringify({ name: "eventfold-es", type: "module", exports, imports }),
  );
  return { directory, remove: () => fs.rmSync(directory, { recursive: true, force: true }) };
}
