import { TextEncoder } from "node:util";
import { crc32 } from "node:zlib";
import xxhash from "xxhash-wasm";
import type { Snapshot } from "../../event-store/event-store.ts";
import { isChecksum, sealed } from "../disk/checksum.ts";
import { isJsonValue } from "../../json.ts";

/** xxh64 with seed 0, as 16 lower-case hex digits: the Rust crate's hash of a line without its LF. */
export type LineHash = (bytes: Uint8Array) => string;

let loading: Promise<LineHash> | undefined;

/** Compiles the hash once for all stores of the process. */
export function loadLineHash(): Promise<LineHash> {
  return (loading ??= withTextEncoder(xxhash).then(
    ({ h64Raw }) =>
      (bytes) =>
        h64Raw(bytes).toString(16).padStart(16, "0"),
  ));
}

/** The hash looks for a global `TextEncoder` when it is compiled, which Jest's jsdom environment does not have. */
async function withTextEncoder<T>(work: () => Promise<T>): Promise<T> {
  const globals = globalThis as { TextEncoder?: unknown };
  if (globals.TextEncoder !== undefined) return work();
  globals.TextEncoder = TextEncoder;
  try {
    return await work();
  } finally {
    delete globals.TextEncoder;
  }
}

/**
 * `views/state.snapshot.json`: the Rust crate's `state, offset, hash` (the place after the last folded
 * line, and that line's hash), then ours: `version`, `position`, `fingerprint` of the code that made it, `lines`
 * (the CRC-32 of the stream's lines up to `offset`, when known), and `crc` over all before it.
 */
export interface SnapshotFile extends Snapshot {
  readonly offset: number;
  readonly hash: string;
  readonly lines?: number | undefined;
}

/** The file's text; nothing if the state would not come back from JSON exactly as it is. */
export function encodeSnapshot(snapshot: SnapshotFile): string | undefined {
  if (!isJsonValue(snapshot.state)) return undefined;
  const { state, offset, hash, version, position, fingerprint, lines } = snapshot;
  const text = JSON.stringify({ state, offset, hash, version, position, fingerprint, lines }).slice(0, -1);
  return sealed(text);
}

/** Decodes an intact snapshot of ours; nothing for any other content. A snapshot of the Rust crate does not tell which code made it. */
export function decodeSnapshot(text: string): SnapshotFile | undefined {
  const match = /,"crc":"([0-9a-f]{8})"\}$/.exec(text.slice(-20));
  if (match === null) return undefined;
  const checked = text.slice(0, -match[0].length);
  if (!isChecksum(match[1], crc32(checked))) return undefined;
  return JSON.parse(`${checked}}`) as SnapshotFile;
}
