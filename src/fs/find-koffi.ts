import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf } from "../realm.ts";
import { moduleLocation } from "./module-location.ts";

/** What of koffi is used. The native module alone has it, too. */
export interface Koffi {
  load(library: null): { func(definition: string): unknown };
  errno(): number;
}

/** Names a place where koffi is: its package's directory, one that has it in `node_modules`, or its native file. */
const VARIABLE = "EVENTFOLD_KOFFI";

export class KoffiNotFoundError extends Error {
  override readonly name = "KoffiNotFoundError";
}

/**
 * Loads koffi at run time, from the first place that has it. An `import` would make bundlers take in its JavaScript without the native
 * file, and test runners load that file once for each realm.
 */
export function findKoffi(): Koffi {
  // The real one: Jest puts its own in the place of `import "node:module"`, and would load the native file for each test file.
  const { createRequire } = process.getBuiltinModule("node:module");
  const failures: string[] = [];
  for (const { from, name } of candidates()) {
    try {
      const found = createRequire(from)(name) as Partial<Koffi> & { readonly default?: Koffi };
      if (typeof found.load === "function") return found as Koffi;
      if (found.default !== undefined) return found.default;
    } catch (error) {
      failures.push(`${name} from ${path.dirname(from)}: ${messageOf(error).split("\n", 1)[0]}`);
    }
  }
  throw new KoffiNotFoundError(failures.join("\n"));
}

function* candidates(): Generator<{ readonly from: string; readonly name: string }> {
  const chosen = process.env[VARIABLE];
  if (chosen !== undefined && chosen !== "") {
    const place = path.resolve(chosen);
    yield { from: path.join(place, "here.js"), name: place };
    yield* at(path.join(place, "here.js"));
  }
  for (const place of new Set(places())) yield* at(place);
}

/** koffi as a package, as its package for this platform alone, or as a file beside. */
function* at(place: string): Generator<{ readonly from: string; readonly name: string }> {
  for (const from of unpacked(place)) {
    yield { from, name: "koffi" };
    yield { from, name: `@koromix/koffi-${process.platform}-${process.arch}` };
    yield { from, name: "./koffi.node" };
  }
}

/** Files next to which, or above which, koffi may be. Never the working directory: what lies there must not be run. */
function* places(): Generator<string> {
  // Bundlers leave this out, or put in where the file was when they ran; in a bundle of CommonJS, the other is right.
  if (moduleLocation?.startsWith("file:") === true) yield fileURLToPath(moduleLocation);
  else if (moduleLocation !== undefined) yield moduleLocation;
  const file = fileOfBundle();
  if (file !== undefined && path.isAbsolute(file)) yield file;
  // The script that was started, and the program itself when the script is inside of it.
  if (process.argv[1] !== undefined && path.isAbsolute(process.argv[1])) yield process.argv[1];
  yield process.execPath;
  const { resourcesPath } = process as { readonly resourcesPath?: string };
  if (resourcesPath !== undefined) yield path.join(resourcesPath, "app.asar", "here.js");
}

/** The file of a bundle of CommonJS. Not by `typeof`: webpack replaces that by "string", also where there is no such variable. */
function fileOfBundle(): string | undefined {
  try {
    return __filename;
  } catch {
    return undefined;
  }
}

/** Electron keeps native files, which the system cannot load from within an archive, in a directory beside the archive. */
function unpacked(place: string): readonly string[] {
  const beside = place.replace(/\.asar(?=[\\/])/g, ".asar.unpacked");
  return beside === place ? [place] : [beside, place];
}
