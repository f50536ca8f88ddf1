export type { FileHandle, FileSystem, LockFile } from "../fs/file-system.ts";
export { openNodeFileSystem } from "../fs/node-file-system.ts";
