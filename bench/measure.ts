import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Sample } from "./tasks/task.ts";
import type { Task } from "./tasks/tasks.ts";

/** A message of a child process. */
export type Reply =
  | { readonly kind: "ready" }
  | { readonly kind: "sample"; readonly sample: Sample }
  | { readonly kind: "failed"; readonly message: string };

/** A measurement that could not be made: the contender failed at the work. */
export class TaskFailed extends Error {}

const CHILD = fileURLToPath(new URL("child.js", import.meta.url));

/** Makes one measurement in a new process. */
export async function measure(task: Task): Promise<Sample> {
  const [sample] = await measureTogether([task]);
  if (sample === undefined) throw new TaskFailed("no measurement was made");
  return sample;
}

/** Makes several at the same time; those that can, begin together. */
export function measureTogether(tasks: readonly Task[]): Promise<Sample[]> {
  const waiting: (() => void)[] = [];
  const begin = (start: () => void): void => {
    waiting.push(start);
    if (waiting.length === tasks.length) for (const go of waiting) go();
  };
  return Promise.all(tasks.map((task) => measureOne(task, begin)));
}

function measureOne(task: Task, begin: (start: () => void) => void): Promise<Sample> {
  return new Promise((resolve, reject) => {
    const { NODE_ENV: _, ...env } = process.env;
    const child = fork(CHILD, [], { execArgv: ["--expose-gc"], env, stdio: ["ignore", "ignore", "pipe", "ipc"] });
    let errors = "";
    child.stderr?.on("data", (text: Buffer) => (errors += text.toString()));
    child.on("message", (reply: Reply) => {
      if (reply.kind === "ready") begin(() => child.send("begin"));
      else if (reply.kind === "sample") resolve(reply.sample);
      else reject(new TaskFailed(reply.message));
    });
    child.on("error", reject);
    child.on("close", (code, signal) => reject(new TaskFailed(`the process ended (${code ?? signal}): ${errors}`)));
    child.send(task);
  });
}
