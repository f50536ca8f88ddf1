import type { RepairOptions, RepairReport, VerifyOptions, VerifyReport } from "./findings.ts";

/**
 * Reads everything in a store's directory and says what is damaged, missing or unusual, without changing anything. It can run
 * beside programs that use the store. Throws `INVALID_ARGUMENT` if there is no such directory, `UNSUPPORTED_FORMAT` if a newer version wrote it.
 */
export async function verify(directory: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const [{ verifyStore }, fileSystem] = await Promise.all([import("./verify.ts"), fileSystemOf(options)]);
  return verifyStore(fileSystem, directory);
}

/**
 * Puts right what `verify` finds: every event that is damaged in one place is taken from the other, the commit log or the
 * stream's file; caches are removed and made again. Replaced bytes move to `meta/quarantine/`. No other program may
 * have the store open. It can be stopped at any time and run again. Throws like `verify`, and `STREAM_LOCKED`, `STORE_BUSY`, `DISK_FULL`, `IO_ERROR`.
 */
export async function repair(directory: string, options: RepairOptions = {}): Promise<RepairReport> {
  const [{ repairStore }, fileSystem] = await Promise.all([import("./repair.ts"), fileSystemOf(options)]);
  return repairStore(fileSystem, directory, options.dryRun === true);
}

async function fileSystemOf({ fileSystem }: VerifyOptions): Promise<NonNullable<VerifyOptions["fileSystem"]>> {
  return fileSystem ?? (await import("../fs/node-file-system.ts")).openNodeFileSystem();
}
