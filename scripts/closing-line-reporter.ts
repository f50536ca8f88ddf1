import type { Reporter, TestModule } from "vitest/node";

/**
 * Ends the run with one plain line: `N passed, N failed`, and `, N skipped` if there are any.
 * A file that failed without a failed test (it did not load, or a hook threw) and an error outside
 * of all tests count as one failure each, so that a run that fails never says `0 failed`.
 */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 };
    for (const module of modules) {
      const failedBefore = count.failed;
      for (const test of module.children.allTests()) count[test.result().state] += 1;
      if (module.state() === "failed" && count.failed === failedBefore) count.failed += 1;
    }
    const skipped = count.skipped + count.pending;
    const suffix = skipped > 0 ? `, ${skipped} skipped` : "";
    process.stdout.write(`${count.passed} passed, ${count.failed} failed${suffix}\n`);
  }
}
