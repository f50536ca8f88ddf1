import { createInterface } from "node:readline";

/** The options of this worker. */
export function workerOptions<T>(): T {
  return JSON.parse(process.argv[2] ?? "{}") as T;
}

/** Resolves when the parent sends its one line. */
export function parentsLine(): Promise<string> {
  return new Promise((resolve) => {
    const input = createInterface({ input: process.stdin });
    input.once("line", (line) => {
      input.close();
      // An open standard input would keep the process alive.
      process.stdin.destroy();
      resolve(line);
    });
  });
}
