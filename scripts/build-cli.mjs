/** Bundles the command line, into `dist/` or the given directory, with the packages that only it needs: the library does not install them. */
import { build } from "esbuild";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const output = `${process.argv[2] ?? "dist"}/cli`;

const { metafile } = await build({
  entryPoints: ["src/cli/main.ts"],
  outfile: `${output}/main.js`,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  // The library beside it in the package.
  external: ["eventfold-es", "eventfold-es/*"],
  // Bundled CommonJS packages call `require` for modules of Node.js.
  banner: {
    js: 'import { createRequire as requireOf } from "node:module";\nconst require = requireOf(import.meta.url);',
  },
  metafile: true,
});

const packages = new Set(
  Object.keys(metafile.inputs).flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
);
const licences = [...packages].sort().map((name) => {
  const directory = `node_modules/${name}`;
  const { license, author = "" } = JSON.parse(readFileSync(`${directory}/package.json`, "utf8"));
  const file = readdirSync(directory).find((each) => /^licen[cs]e/i.test(each));
  const text = file === undefined ? JSON.stringify(author) : readFileSync(`${directory}/${file}`, "utf8").trim();
  return `${name}, ${license}\n\n${text}\n`;
});
writeFileSync(`${output}/LICENSES.txt`, `The command line contains these packages.\n\n${licences.join("\n---\n\n")}`);
