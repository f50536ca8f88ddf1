import { EventfoldError } from "./errors.ts";
import { isWellFormed } from "./json.ts";
import type { StreamName } from "./event-store/event-store.ts";

declare const brand: unique symbol;

/** `<type>/<id>`, for maps and messages. A type has no slash. */
export type FullName = string & { readonly [brand]: "FullName" };

export function fullNameOf({ type, id }: StreamName): FullName {
  return `${type}/${id}` as FullName;
}

/** Types of streams with remembered outcomes begin so. No contract can declare such a type. */
const OUTCOMES = "$outcomes.";

/** The stream beside an instance's own that has the outcomes which are remembered although they have no events. */
export function outcomesOf({ type, id }: StreamName): StreamName {
  return { type: `${OUTCOMES}${type}`, id };
}

/** Whether the streams of a type have remembered outcomes instead of events. */
export function isOutcomesType(type: string): boolean {
  return type.startsWith(OUTCOMES);
}

/** The instance whose outcomes a stream has. Any other stream is its own instance. */
export function instanceOf(stream: StreamName): StreamName {
  return isOutcomesType(stream.type) ? { type: stream.type.slice(OUTCOMES.length), id: stream.id } : stream;
}

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
 * Whether an id is its own directory name (`"safe"`), could be one that the Rust crate made on this system (`"possible"`),
 * or never.
 */
export function isPlainName(id: string): "safe" | "possible" | "never" {
  checkId(id);
  if (isSafe(id) && utf8Length(id) <= MAX_NAME_BYTES) return "safe";
  return id.includes("/") ||
    id.includes("\0") ||
    id === "." ||
    id === ".." ||
    decodeId(id) !== id ||
    utf8Length(id) > MAX_NAME_BYTES
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
    for (const character of id) name += escaped(character);
    if (name.endsWith(".")) name = `${name.slice(0, -1)}%2E`;
  }
  const bytes = utf8Length(name);
  if (bytes > MAX_NAME_BYTES) {
    throw new EventfoldError(
      "ID_TOO_LONG",
      `id ${JSON.stringify(id.slice(0, 40))}… needs ${bytes} bytes as a directory name; every store allows ${MAX_NAME_BYTES}, as file systems do: use a shorter id`,
    );
  }
  return name;
}

// Not with `TextEncoder`, which Jest's jsdom environment does not have.
function escaped(character: string): string {
  if (/^[A-Za-z0-9_.-]$/.test(character)) return character;
  const code = character.codePointAt(0) ?? 0;
  return code < 0x80 ? `%${code.toString(16).toUpperCase().padStart(2, "0")}` : encodeURIComponent(character);
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

/**
 * Throws when a stream's name cannot be stored. The limit is that of directory names, for every kind of store, so that events can be
 * moved from each to each.
 */
export function checkStreamName({ type, id }: StreamName): void {
  checkTypeName(type);
  encodeId(id);
}

/** Throws when an aggregate's type cannot be stored. */
export function checkTypeName(type: string): void {
  if (!isTypeName(type)) throw new EventfoldError("INVALID_ID", `${JSON.stringify(type)} is not a type`);
}

/**
 * Whether a type can be stored: like an id, its name in files is escaped where it is not safe. It has no `/`, which separates it
 * from the id in the names of streams.
 */
export function isTypeName(type: string): boolean {
  if (type.includes("/")) return false;
  try {
    encodeId(type);
    return true;
  } catch {
    return false;
  }
}

/** How many bytes a text has in UTF-8, or a little fewer than it has when it is too short to matter. */
function utf8Length(text: string): number {
  if (text.length * 3 <= MAX_NAME_BYTES) return text.length;
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
