import * as fs from "node:fs";

/** About what one event takes in a file. */
const LINE = Buffer.from(`${"x".repeat(149)}\n`);
const PREALLOCATED = 4 << 20;

/** How the bytes get to the disk. */
export type FloorWay =
  /** One `O_DSYNC` write on the thread pool, into a file that has its size already. */
  | "asynchronous"
  /** The same call, on the event loop's own thread. */
  | "synchronous"
  /** A write and an `fdatasync` to a file that grows, both on the thread pool. */
  | "write and fdatasync";

export interface Floor {
  write(): Promise<void>;
  /** As `write`, without a promise. */
  writeNow(): void;
  close(): void;
}

/** What a durable write costs without anything around it. `bytes` is 150 if left out. */
export function openFloor(directory: string, way: FloorWay, bytes = LINE.length): Floor {
  const file = `${directory}/floor`;
  const grows = way === "write and fdatasync";
  fs.writeFileSync(file, grows ? "" : Buffer.alloc(Math.max(PREALLOCATED, bytes * 4)));
  const { O_RDWR, O_DSYNC } = fs.constants;
  const settling = fs.openSync(file, "r+");
  fs.fsyncSync(settling);
  fs.closeSync(settling);
  const descriptor = fs.openSync(file, O_RDWR | (grows ? 0 : O_DSYNC));
  const line = bytes === LINE.length ? LINE : Buffer.alloc(bytes, "x");
  let offset = 0;
  const next = (): number => {
    const at = offset;
    offset += line.length;
    if (!grows && offset + line.length > Math.max(PREALLOCATED, bytes * 4)) offset = 0;
    return at;
  };
  return {
    write: () =>
      new Promise((resolve, reject) => {
        fs.write(descriptor, line, 0, line.length, next(), (error) => {
          if (error !== null) reject(error);
          else if (grows) fs.fdatasync(descriptor, (failed) => (failed === null ? resolve() : reject(failed)));
          else resolve();
        });
      }),
    writeNow: () => void fs.writeSync(descriptor, line, 0, line.length, next()),
    close: () => fs.closeSync(descriptor),
  };
}
