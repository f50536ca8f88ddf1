import { EventfoldError } from "../errors.ts";

/** Stands in for `file-store/open-directory.ts` where a bundler builds for a browser. */
export async function openDirectory(directory: string): Promise<never> {
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `a browser has no directories, found the path ${JSON.stringify(directory)}; pass a storage, e.g. memory()`,
  );
}

export async function openDirectoryReadOnly(directory: string): Promise<never> {
  return openDirectory(directory);
}

export async function restoreDirectory(source: string): Promise<never> {
  return openDirectory(source);
}

export async function followDirectory(source: string): Promise<never> {
  return openDirectory(source);
}
