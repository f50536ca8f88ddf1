import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

export const ROOT: string = fileURLToPath(new URL("../../", import.meta.url));

/** What the package needs at run time. */
const DEPENDENCIES = ["koffi", "@koromix", "xxhash-wasm"];

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ["ignore", "inherit", "inherit"] });
}

/** A new project with the package: built, packed, and unpacked from the tarball into `node_modules`, with its dependencies. */
export function projectWithPackage(): { readonly project: string; readonly remove: () => void } {
  const project = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-project-")));
  const stage = path.join(project, ".stage");
  const tsc = path.join(ROOT, "node_modules/typescript-7/bin/tsc");
  fs.mkdirSync(stage, { recursive: true });
  // The compiler finds `#open-directory` through the output's directory, which is another one here, or through this condition.
  const esm = ["--project", "tsconfig.build.json", "--customConditions", "eventfold-es-source"];
  run(process.execPath, [tsc, ...esm, "--outDir", path.join(stage, "dist")], ROOT);
  run(process.execPath, [tsc, "--project", "tsconfig.cjs.json", "--outDir", path.join(stage, "dist/cjs")], ROOT);
  run(process.execPath, ["scripts/complete-cjs.mjs", path.join(stage, "dist/cjs")], ROOT);
  run(process.execPath, ["scripts/build-esm.mjs", path.join(stage, "dist")], ROOT);
  run(process.execPath, ["scripts/build-cli.mjs", path.join(stage, "dist")], ROOT);
  for (const file of ["package.json", "README.md", "CHANGELOG.md"])
    fs.copyFileSync(path.join(ROOT, file), path.join(stage, file));
  run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], stage);
  const tarball = fs.readdirSync(project).find((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new Error("npm pack made no tarball");
  const target = path.join(project, "node_modules/eventfold-es");
  fs.mkdirSync(target, { recursive: true });
  run("tar", ["-xzf", path.join(project, tarball), "-C", target, "--strip-components=1"], project);
  for (const name of DEPENDENCIES)
    fs.cpSync(path.join(ROOT, "node_modules", name), path.join(project, "node_modules", name), { recursive: true });
  fs.rmSync(stage, { recursive: true });
  return { project, remove: () => fs.rmSync(project, { recursive: true, force: true }) };
}

/** Makes a package of this repository importable in a project. */
export function link(project: string, name: string): void {
  const target = path.join(project, "node_modules", name);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.symlinkSync(path.join(ROOT, "node_modules", name), target, "dir");
}

/** Puts a TypeScript file of this repository into a project as JavaScript. */
export function putAsJavaScript(source: string, target: string, format: "cjs" | "esm"): void {
  const code = fs.readFileSync(path.join(ROOT, source), "utf8");
  fs.writeFileSync(target, transformSync(code, { loader: "ts", format, target: "es2022" }).code);
}
