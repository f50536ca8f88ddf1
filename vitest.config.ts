import { defineConfig } from "vitest/config";

/**
 * Makes tests import `eventfold-es` and its subpaths from src/, without a build. Vite's condition `module` is not among them: it selects
 * files for bundlers, which Node.js cannot always load.
 */
const conditions = ["eventfold-es-source", "node"];

export default defineConfig({
  // Node 20 has no `using` and no `await using`: they are compiled away.
  oxc: { target: "es2023" },
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["./test/support/servers.ts"],
    setupFiles: ["./test/support/seeds.ts"],
    // Only a hang may end a test: on a loaded machine a crash exploration has taken more than a minute.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    pool: "forks",
    maxWorkers: 2,
    reporters: ["default", "./scripts/slow-test-reporter.ts", "./scripts/closing-line-reporter.ts"],
  },
});
