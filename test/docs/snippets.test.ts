import { join } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { codeBlocks, documents, ROOT } from "./documentation.ts";

/** Compiles modules that exist only in memory, with the project's options. Returns the compiler's errors. */
function compile(modules: ReadonlyMap<string, string>): string[] {
  const config = ts.readConfigFile(join(ROOT, "tsconfig.json"), (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => modules.has(path) || fileExists(path);
  host.readFile = (path) => modules.get(path) ?? readFile(path);
  host.getSourceFile = (path, language, ...rest) => {
    const code = modules.get(path);
    return code === undefined
      ? getSourceFile(path, language, ...rest)
      : ts.createSourceFile(path, code, language, true);
  };
  const program = ts.createProgram([...modules.keys()], options, host);
  return [...modules.keys()].flatMap((path) => {
    const file = program.getSourceFile(path);
    return ts.getPreEmitDiagnostics(program, file).map(({ start, messageText }) => {
      const line = file === undefined || start === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line;
      return `${path}:${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
    });
  });
}

/** Where a block would be if it were a file of this project. Blank lines before it make its line numbers those of the document. */
function asModules(): Map<string, string> {
  const modules = new Map<string, string>();
  for (const document of documents()) {
    for (const { language, code, line } of codeBlocks(document)) {
      if (language !== "ts") continue;
      modules.set(`${ROOT}test/docs/${document.path.replaceAll("/", "-")}-${line}.ts`, "\n".repeat(line - 1) + code);
    }
  }
  return modules;
}

describe("TypeScript in the documentation", () => {
  test("is found", () => {
    const modules = [...asModules().keys()].join("\n");
    expect(modules).toContain("README.md-");
    expect(modules).toContain("docs-format.md-");
  });

  test("compiles with the project's options", () => {
    expect(compile(asModules())).toEqual([]);
  });

  test("is reported if it does not compile", () => {
    const path = `${ROOT}test/docs/bad.ts`;
    const code = `import { data } from "eventfold-es";\n\nexport const bad: string = data();\n`;
    expect(compile(new Map([[path, code]]))).toEqual([expect.stringMatching(/bad\.ts:3: .*not assignable/)]);
  });
});
