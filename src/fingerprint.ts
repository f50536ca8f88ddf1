import { isMapOrSet } from "./realm.ts";
/** Two 32-bit FNV-1a hashes with different seeds: tells versions of code apart, nothing more. */
export function fingerprint(text: string): string {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ unit, 0x85ebca6b) ^ (b >>> 13);
  }
  return [a, b].map((n) => (n >>> 0).toString(16).padStart(8, "0")).join("");
}

/** The text of a value for a fingerprint: its JSON where it is JSON, and something for whatever else a state may hold. */
export function textOf(value: unknown): string {
  try {
    return JSON.stringify(value, (_, item: unknown) =>
      typeof item === "bigint" ? `${item}n` : isMapOrSet(item) ? [item.constructor.name, ...item] : item,
    );
  } catch {
    // It contains itself, say.
    return Object.prototype.toString.call(value);
  }
}
