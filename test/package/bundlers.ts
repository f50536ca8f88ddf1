import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as commonjs from "@rollup/plugin-commonjs";
import { nodeResolve } from "@rollup/plugin-node-resolve";
import { build } from "esbuild";
import { type Plugin, rollup } from "rollup";
import { build as viteBuild } from "vite";
import webpack from "webpack";
import { ROOT } from "./installed-package.ts";

/** A way to make one program of a project's `program.mjs` and what it imports. */
export interface Bundler {
  readonly name: string;
  /** Bundles into a directory, and gives the command that runs the program there. */
  readonly bundle: (project: string, target: string) => Promise<readonly string[]>;
}

const node = process.execPath;

// Its declarations are those of a CommonJS module, whose only export is the function.
const toModules = commonjs.default as unknown as () => Plugin;

export const bundlers: readonly Bundler[] = [
  ...(["esm", "cjs"] as const).map((format) => ({
    name: `esbuild, minified, ${format}`,
    bundle: async (project: string, target: string) => {
      const outfile = path.join(target, format === "esm" ? "app.mjs" : "app.cjs");
      const entryPoints = [path.join(project, "program.mjs")];
      const { warnings } = await build({ entryPoints, outfile, format, bundle: true, minify: true, platform: "node" });
      if (warnings.length > 0) throw new Error(JSON.stringify(warnings));
      return [node, outfile];
    },
  })),
  ...(["es", "cjs"] as const).map((format) => ({
    name: `Rollup, ${format}`,
    bundle: async (project: string, target: string) => {
      const bundle = await rollup({
        input: path.join(project, "program.mjs"),
        plugins: [nodeResolve({ preferBuiltins: true }), toModules()],
        onwarn: (warning) => {
          throw new Error(warning.message);
        },
      });
      const extension = format === "es" ? "mjs" : "cjs";
      await bundle.write({
        dir: target,
        format,
        entryFileNames: `app.${extension}`,
        chunkFileNames: `[name]-[hash].${extension}`,
      });
      await bundle.close();
      return [node, path.join(target, `app.${extension}`)];
    },
  })),
  ...(["module", "commonjs2"] as const).map((type) => ({
    name: `webpack, ${type}`,
    bundle: async (project: string, target: string) => {
      const isModule = type === "module";
      const filename = isModule ? "app.mjs" : "app.cjs";
      await new Promise<void>((resolve, reject) => {
        webpack(
          {
            mode: "production",
            // Its minifier takes half a minute; esbuild's output is minified above.
            optimization: { minimize: false },
            target: "node20",
            context: project,
            entry: "./program.mjs",
            experiments: { outputModule: isModule },
            output: { path: target, filename, chunkFilename: `[id]${path.extname(filename)}`, library: { type } },
          },
          (error, stats) => {
            if (error !== null) reject(error);
            else if (stats?.hasErrors() === true || stats?.hasWarnings() === true) reject(new Error(stats.toString()));
            else resolve();
          },
        );
      });
      return [node, path.join(target, filename)];
    },
  })),
  {
    name: "Vite, for a server",
    bundle: async (project, target) => {
      await viteBuild({
        root: project,
        configFile: false,
        logLevel: "error",
        ssr: { noExternal: true },
        build: {
          ssr: "program.mjs",
          outDir: target,
          minify: true,
          rollupOptions: { output: { entryFileNames: "app.mjs" } },
        },
      });
      return [node, path.join(target, "app.mjs")];
    },
  },
  {
    name: "a single executable of Node.js",
    bundle: async (project, target) => {
      const [main, blob, executable] = ["main.cjs", "app.blob", "app"].map((name) => path.join(target, name)) as [
        string,
        string,
        string,
      ];
      await build({
        entryPoints: [path.join(project, "program.mjs")],
        outfile: main,
        format: "cjs",
        bundle: true,
        platform: "node",
        logLevel: "error",
      });
      const configuration = path.join(target, "sea.json");
      fs.writeFileSync(configuration, JSON.stringify({ main, output: blob, disableExperimentalSEAWarning: true }));
      execFileSync(node, ["--experimental-sea-config", configuration], { stdio: "ignore" });
      fs.copyFileSync(node, executable);
      const fuse = ["--sentinel-fuse", "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2"];
      const postject = path.join(ROOT, "node_modules/postject/dist/cli.js");
      execFileSync(node, [postject, executable, "NODE_SEA_BLOB", blob, ...fuse], { stdio: "ignore" });
      for (const file of [main, blob, configuration]) fs.rmSync(file);
      return [executable];
    },
  },
];

/** Bun's binary, which the package `bun` moves into its own directory if its install script may run. */
export const bun: string | undefined = [
  "bun/bin/bun.exe",
  ...["", "-baseline", "-musl"].map((kind) => `@oven/bun-${process.platform}-${process.arch}${kind}/bin/bun`),
]
  .map((file) => path.join(ROOT, "node_modules", file))
  // Before the script has run, a small text is in the place of the first one.
  .find((file) => (fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 1 << 20);
