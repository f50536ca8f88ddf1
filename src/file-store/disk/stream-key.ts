import { EventfoldError } from "../../errors.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { isWellFormed } from "../../json.ts";
import type { StreamName } from "../../event-store/event-store.ts";
import type { Layout } from "./store-paths.ts";

/** Longest name of a directory entry on the file systems that we know, in bytes. */
const MAX_NAME_BYTES = 255;

/** Names that Windows keeps for devices, with any extension. */
const WINDOWS_DEVICES = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)/i;

const UNSAFE_CHARACTERS = /[\u0000-\u001f\u007f/\\:*?"<>|]/u;

/**
 * Whether an id can be a directory's name as it is on Linux, macOS and Windows, without becoming
 * another one there. A leading `%` marks an escaped name, so an id that starts with it is escaped too.
 * A text that is not in Unicode normal form C is not safe: macOS would merge it with its composed form.
 */
function isSafe(id: string): boolean {
  return !(
    id.startsWith("%") ||
    id.endsWith(".") ||
    id.endsWith(" ") ||
    UNSAFE_CHARACTERS.test(id) ||
    WINDOWS_DEVICES.test(id) ||
    id.normalize("NFC") !== id
  );
}

/**
 * Whether an id is its own directory name (`"safe"`), could be one that another program made on this system (`"possible"`),
 * or never.
 */
export function isPlainName(id: string): "safe" | "possible" | "never" {
  checkId(id);
  if (isSafe(id) && Buffer.byteLength(id) <= MAX_NAME_BYTES) return "safe";
  return id.includes("/") ||
    id.includes("\0") ||
    id === "." ||
    id === ".." ||
    decodeId(id) !== id ||
    Buffer.byteLength(id) > MAX_NAME_BYTES
    ? "never"
    : "possible";
}

/**
 * The directory name of an id: the id itself if that is safe, else `%` and the id's UTF-8 bytes with
 * everything but ASCII letters, digits, `-`, `_` and inner `.` as `%XX`. Reversible, and no two ids share a name.
 */
export function encodeId(id: string): string {
  checkId(id);
  let name = id;
  if (!isSafe(id)) {
    name = "%";
    for (const byte of Buffer.from(id, "utf8")) {
      const character = String.fromCharCode(byte);
      name += /[A-Za-z0-9_.-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    }
    if (name.endsWith(".")) name = `${name.slice(0, -1)}%2E`;
  }
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) {
    throw new EventfoldError(
      "ID_TOO_LONG",
      `id ${JSON.stringify(id.slice(0, 40))}… needs ${bytes} bytes as a directory name; file systems allow ${MAX_NAME_BYTES}: use a shorter id`,
    );
  }
  return name;
}

/** The id that a directory name stands for. A `%…` name that `encodeId` would not give stands for itself. */
export function decodeId(name: string): string {
  if (!name.startsWith("%")) return name;
  try {
    const id = decodeURIComponent(name.slice(1));
    return id !== "" && encodeId(id) === name ? id : name;
  } catch {
    return name;
  }
}

/** Throws when `id` is not a non-empty, well-formed Unicode string. */
export function checkId(id: unknown): asserts id is string {
  if (typeof id !== "string")
    throw new EventfoldError("INVALID_ID", `an id is a string, not ${id === null ? "null" : typeof id}`);
  if (id === "") throw new EventfoldError("INVALID_ID", "an id must not be empty");
  if (!isWellFormed(id)) {
    throw new EventfoldError(
      "INVALID_ID",
      `id ${JSON.stringify(id)} has half of a surrogate pair: it is not Unicode text`,
    );
  }
}

/** `<type>/<directory name>`: names a stream inside the store and in the commit log. */
export type StreamKey = string;

export function streamOfKey(key: StreamKey): StreamName {
  const slash = key.indexOf("/");
  return { type: key.slice(0, slash), id: decodeId(key.slice(slash + 1)) };
}

/** The name of the directory that holds an id: the plain id if that is safe or another program has made it so. */
export function directoryName(fs: FileSystem, layout: Layout, type: string, id: string): string {
  const plain = isPlainName(id);
  if (plain === "safe") return id;
  if (plain === "possible" && fs.stat(`${layout.streams}/${type}/${id}`)?.directory === true) return id;
  return encodeId(id);
}
