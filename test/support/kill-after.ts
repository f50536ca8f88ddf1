import type { SimulatedDisk, SimulatedProcess } from "eventfold-es/testing";

/**
 * Kills a process at one of its next calls to the disk, or when it makes no more of them: before the call for an even number, a
 * turn of the event loop later for an odd one, when it may be waiting for the medium.
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
    if (calls % 2 === 0) kill();
    else setImmediate(kill);
    return undefined;
  });
  for (let turns = 0; turns < 400 && !killed; turns++) await new Promise<void>((resolve) => setImmediate(resolve));
  kill();
  stop();
}
