import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** A second process that runs a file of this folder, with `options` as JSON. */
export class Worker {
  readonly process: ChildProcess;
  readonly exited: Promise<number | null>;
  readonly #lines: AsyncIterator<string> | undefined;
  #errors = "";

  /** Its standard output goes to the descriptor `output`; without one, `line()` reads it. */
  constructor(file: string, options: object, output?: number) {
    const url = new URL(file, import.meta.url);
    const flags = ["--import", "tsx", "--conditions=eventfold-es-source"];
    this.process = spawn(process.execPath, [...flags, fileURLToPath(url), JSON.stringify(options)], {
      stdio: ["pipe", output ?? "pipe", "pipe"],
    });
    this.process.stderr?.on("data", (bytes: Buffer) => (this.#errors += bytes.toString()));
    this.process.stdin?.on("error", () => {});
    const { stdout } = this.process;
    this.#lines = stdout === null ? undefined : createInterface({ input: stdout })[Symbol.asyncIterator]();
    this.exited = new Promise((resolve) => this.process.once("close", resolve));
    onTestFinished(() => void this.process.kill("SIGKILL"));
  }

  /** Everything that it wrote to its error output. */
  get errors(): string {
    return this.#errors;
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    const next = await this.#lines?.next();
    if (next === undefined || next.done === true) {
      await this.exited;
      throw new Error(`the worker ended: ${this.#errors}`);
    }
    return next.value;
  }

  send(line: string): void {
    this.process.stdin?.write(`${line}\n`);
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.exited;
  }
}
