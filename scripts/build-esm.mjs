/** Bundles the ESM output, into `dist/` or the given directory: one file for each entry of package.json, and chunks for what they share. */
import { build } from "esbuild";
import { readFileSync } from "node:fs";

const { exports, imports, dependencies } = JSON.parse(readFileSync("package.json", "utf8"));

/** The source file of each entry, by the name of its output. */
function entryPoints(targets) {
  if (typeof targets !== "object") return {};
  const { "eventfold-es-source": source, ...conditions } = targets;
  const own = source === undefined ? {} : { [source.replace(/^\.\/src\/(.*)\.ts$/, "$1")]: source };
  return Object.assign(own, ...Object.values(conditions).map(entryPoints));
}

await build({
  entryPoints: entryPoints({ ...exports, ...imports }),
  outdir: process.argv[2] ?? "dist",
  bundle: true,
  // Without it, each entry would have a copy of its own of the shared modules.
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  format: "esm",
  platform: "node",
  target: "node20",
  // Package.json maps `#open-directory` to another file in browsers.
  external: [...Object.keys(imports), ...Object.keys(dependencies), "typescript"],
  sourcemap: true,
});
