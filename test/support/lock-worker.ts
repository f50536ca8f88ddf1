import { openNodeFileSystem } from "eventfold-es/testing";
import { pause } from "./until.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Takes a lock, and keeps it until its parent says something. */
const { path } = workerOptions<{ readonly path: string }>();
const lock = (await openNodeFileSystem()).openLock(path);
// The store may have it for a moment, to flush its files.
while (!lock.tryAcquire()) await pause(1);
process.stdout.write("locked\n");
await parentsLine();
lock.release();
lock.close();
