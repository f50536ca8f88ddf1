import type { ReportedHookContext, Reporter, TestCase, TestModule } from "vitest/node";

/** After this time a test is named, and again after each further such time. */
const SLOW_MS = 120_000;

/** Names what has been running for minutes, so that a run that hangs says where, also if it is killed. */
export default class SlowTestReporter implements Reporter {
  readonly #running = new Map<string, { readonly title: string; readonly started: number }>();
  #timer: NodeJS.Timeout | undefined;

  onTestRunStart(): void {
    this.#timer = setInterval(() => this.#report(), SLOW_MS).unref();
  }

  onTestRunEnd(): void {
    clearInterval(this.#timer);
  }

  onTestModuleStart(module: TestModule): void {
    this.#start(module.id, module.relativeModuleId);
  }

  onTestModuleEnd(module: TestModule): void {
    this.#running.delete(module.id);
  }

  onTestCaseReady(test: TestCase): void {
    this.#start(test.id, `${test.module.relativeModuleId} > ${test.fullName}`);
  }

  onTestCaseResult(test: TestCase): void {
    this.#running.delete(test.id);
  }

  onHookStart(hook: ReportedHookContext): void {
    this.#start(`${hook.entity.id} ${hook.name}`, `${nameOf(hook)} > ${hook.name}`);
  }

  onHookEnd(hook: ReportedHookContext): void {
    this.#running.delete(`${hook.entity.id} ${hook.name}`);
  }

  #start(id: string, title: string): void {
    this.#running.set(id, { title, started: Date.now() });
  }

  #report(): void {
    for (const { title, started } of this.#running.values()) {
      const seconds = Math.round((Date.now() - started) / 1000);
      if (seconds * 1000 >= SLOW_MS) process.stdout.write(`still running after ${seconds} s: ${title}\n`);
    }
  }
}

function nameOf({ entity }: ReportedHookContext): string {
  return entity.type === "module" ? entity.relativeModuleId : `${entity.module.relativeModuleId} > ${entity.fullName}`;
}
