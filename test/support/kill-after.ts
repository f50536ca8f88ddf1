import type { SimulatedDisk, SimulatedProcess } from "eventfold-es/testing";

/**
 * Kills a process at one of its next calls to the disk, or after its last call: before the call, or up to two turns of the
 * event loop later, when it may be waiting for the medium.
 */
export async function killAfter(disk: SimulatedDisk, process: SimulatedProcess, calls: number): Promise<void> {
  let left = calls;
  let killed = false;
  const kill = (): void => {
    killed = true;
    process.kill();
  };
  const stop = disk.failWhen((call) => {
    if (call.process !== process.name || left-- !== 0) return undefined;
    const turns = calls % 3;
    if (turns === 0) kill();
    else if (turns === 1) setImmediate(kill);
    else setImmediate(() => setImmediate(kill));
    return undefined;
  });
  for (let turns = 0; turns < 400 && !killed; turns++) await new Promise<void>((resolve) => setImmediate(resolve));
  kill();
  stop();
}
