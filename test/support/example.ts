import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { until } from "./until.ts";

/** A process that runs `main.ts` of an example, as a user would start it. */
export class Example {
  readonly process: ChildProcess;
  /** The exit code, when the process has ended and all its output is there. */
  readonly exited: Promise<number | null>;
  out = "";
  errors = "";

  constructor(name: string, ...args: string[]) {
    const main = fileURLToPath(new URL(`../../examples/${name}/main.ts`, import.meta.url));
    const flags = ["--import", "tsx", "--conditions=eventfold-es-source"];
    this.process = spawn(process.execPath, [...flags, main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    this.process.stdout?.setEncoding("utf8").on("data", (text: string) => (this.out += text));
    this.process.stderr?.setEncoding("utf8").on("data", (text: string) => (this.errors += text));
    this.exited = new Promise((resolve) => this.process.once("close", resolve));
    onTestFinished(() => void this.process.kill("SIGKILL"));
  }

  /** Waits until the process has printed a text. Throws if it ends without it. */
  async printed(text: string): Promise<void> {
    let hasEnded = false;
    void this.exited.then(() => (hasEnded = true));
    await until(() => this.out.includes(text) || hasEnded, 120_000);
    if (!this.out.includes(text)) throw new Error(`the example ended without ${text}: ${this.out}${this.errors}`);
  }

  /** Ends the process with a signal that it can handle, and waits for it. */
  stop(signal: "SIGINT" | "SIGTERM"): Promise<number | null> {
    this.process.kill(signal);
    return this.exited;
  }
}
