import type { KeyRing } from "./key-ring.ts";

/** Encrypted text. It cannot be read without all of its keys. These names are part of the format on disk: see docs/format.md. */
export interface Box {
  readonly keys: readonly string[];
  readonly box: string;
}

export function isBox(value: unknown): value is Box {
  if (typeof value !== "object" || value === null) return false;
  const { keys, box } = value as Partial<Box>;
  return (
    typeof box === "string" && Array.isArray(keys) && keys.length > 0 && keys.every((id) => typeof id === "string")
  );
}

/** Encrypts the JSON of a value with keys that are loaded. `place` names what it belongs to. */
export function seal(ring: KeyRing, ids: Iterable<string>, place: readonly string[], text: string): Box {
  const keys = [...new Set(ids)].sort();
  const key = joined(ring, keys);
  if (key === undefined) throw new Error(`expected the keys ${keys.join(", ")} to be loaded`);
  return { keys, box: ring.cipher.seal(key, JSON.stringify(place), text) };
}

/** The content of a box: `"lost"` if a key is not there any more, `"damaged"` if the box does not belong to the place or was changed. */
export function open(
  ring: KeyRing,
  { keys, box }: Box,
  place: readonly string[],
): { readonly value: unknown } | "lost" | "damaged" {
  const key = joined(ring, keys);
  if (key === undefined) return "lost";
  const text = ring.cipher.open(key, JSON.stringify(place), box);
  return text === undefined ? "damaged" : { value: JSON.parse(text) as unknown };
}

function joined(ring: KeyRing, ids: readonly string[]): Uint8Array | undefined {
  const keys: Uint8Array[] = [];
  for (const id of ids) {
    const key = ring.key(id);
    if (key === undefined) return undefined;
    keys.push(key);
  }
  return ring.cipher.joined(keys);
}
