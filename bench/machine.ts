import { statfsSync } from "node:fs";
import * as os from "node:os";

/** Kinds of file systems by their number on Linux. */
const FILE_SYSTEMS = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x2fc12fc1, "zfs"],
  [0x794c7630, "overlay"],
  [0x01021994, "tmpfs (memory, not a disk: durable writes cost nothing there)"],
]);

/** The machine's properties, without its name. */
export function describeMachine(directory: string): string {
  const [processor] = os.cpus();
  const gigabytes = Math.round(os.totalmem() / 2 ** 30);
  return [
    `${processor?.model.trim() ?? "unknown processor"}, ${os.availableParallelism()} cores, ${gigabytes} GB`,
    `${os.type()}, ${fileSystem(directory)}`,
    `Node.js ${process.versions.node}`,
  ].join("; ");
}

function fileSystem(directory: string): string {
  const { type } = statfsSync(directory);
  return FILE_SYSTEMS.get(type) ?? `file system of type 0x${type.toString(16)}`;
}

/** Whether other work uses the processors; then absolute figures mean little. */
export function describeLoad(): string {
  const [lastMinute = 0] = os.loadavg();
  return `${lastMinute.toFixed(1)} on ${os.availableParallelism()} cores`;
}
