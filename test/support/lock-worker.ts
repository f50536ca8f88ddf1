import { openNodeFileSystem } from "eventfold-es/testing";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Takes a lock, and keeps it until its parent says something. */
const { path } = workerOptions<{ readonly path: string }>();
const lock = (await openNodeFileSystem()).openLock(path);
if (!lock.tryAcquire()) throw new Error(`expected the lock ${path} to be free`);
process.stdout.write("locked\n");
await parentsLine();
lock.release();
lock.close();
