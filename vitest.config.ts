import { defineConfig } from "vitest/config";

/** Makes tests import `eventfold-es` and its subpaths from src/, without a build. */
const conditions = ["eventfold-es-source", "module", "node"];

export default defineConfig({
  // Node 20 has no `using` and no `await using`: they are compiled away.
  oxc: { target: "es2023" },
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["./test/support/servers.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
    reporters: ["default", "./scripts/closing-line-reporter.ts"],
  },
});
