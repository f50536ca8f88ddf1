/** Decompresses gzip without the platform's help, so that the tools for tests run anywhere and share no code with the store. */
export function gunzip(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== 0x1f || bytes[at + 1] !== 0x8b || bytes[at + 2] !== 8)
      throw new Error(`expected a member of a gzip file at byte ${at}`);
    const flags = bytes[at + 3] ?? 0;
    at += 10;
    if ((flags & 4) > 0) at += 2 + number(bytes, at, 2);
    if ((flags & ~4) > 0) throw new Error(`expected no flags but that of the extra field, found ${flags}`);
    const first = out.length;
    at = inflate(bytes, at, out);
    if (number(bytes, at, 4) !== crcOf(out, first))
      throw new Error(`the checksum before byte ${at + 4} does not match`);
    if (number(bytes, at + 4, 4) !== out.length - first)
      throw new Error(`the length before byte ${at + 8} does not match`);
    at += 8;
  }
  return Uint8Array.from(out);
}

const LENGTHS: readonly (readonly [base: number, extra: number])[] = [
  ...[3, 4, 5, 6, 7, 8, 9, 10].map((base) => [base, 0] as const),
  ...[11, 13, 15, 17].map((base) => [base, 1] as const),
  ...[19, 23, 27, 31].map((base) => [base, 2] as const),
  ...[35, 43, 51, 59].map((base) => [base, 3] as const),
  ...[67, 83, 99, 115].map((base) => [base, 4] as const),
  ...[131, 163, 195, 227].map((base) => [base, 5] as const),
  [258, 0],
];
const DISTANCES = Array.from({ length: 30 }, (_, i) => {
  const extra = Math.max(0, (i >> 1) - 1);
  return [i < 4 ? i + 1 : (2 + (i & 1)) * 2 ** extra + 1, extra] as const;
});
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** By length and code: the symbol. */
type Codes = ReadonlyMap<number, number>;

/** Appends what a deflate stream holds to `out`. Returns the offset after it. */
function inflate(bytes: Uint8Array, start: number, out: number[]): number {
  const first = out.length;
  let bit = start * 8;
  const next = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++, bit++) value |= (((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1) << i;
    return value;
  };
  const symbol = (codes: Codes): number => {
    for (let length = 1, code = 0; length < 16; length++) {
      code = (code << 1) | next(1);
      const found = codes.get((length << 16) | code);
      if (found !== undefined) return found;
    }
    throw new Error(`expected a code before byte ${bit >> 3}`);
  };
  for (let isLast = false; !isLast;) {
    isLast = next(1) === 1;
    const kind = next(2);
    if (kind === 3) throw new Error(`expected a block before byte ${bit >> 3}`);
    if (kind === 0) {
      const at = (bit + 7) >> 3;
      const length = number(bytes, at, 2);
      for (let i = 0; i < length; i++) out.push(bytes[at + 4 + i] ?? 0);
      bit = (at + 4 + length) * 8;
      continue;
    }
    const [literals, distances] = kind === 1 ? FIXED : dynamicCodes(next, symbol);
    for (let found = symbol(literals); found !== 256; found = symbol(literals)) {
      if (found < 256) {
        out.push(found);
        continue;
      }
      const [base = 0, extra = 0] = LENGTHS[found - 257] ?? [];
      const length = base + next(extra);
      const [distanceBase = 0, distanceExtra = 0] = DISTANCES[symbol(distances)] ?? [];
      const from = out.length - distanceBase - next(distanceExtra);
      if (from < first) throw new Error(`expected a distance within the data before byte ${bit >> 3}`);
      for (let i = 0; i < length; i++) out.push(out[from + i] ?? 0);
    }
  }
  return (bit + 7) >> 3;
}

function dynamicCodes(next: (count: number) => number, symbol: (codes: Codes) => number): [Codes, Codes] {
  const [literals, distances, count] = [next(5) + 257, next(5) + 1, next(4) + 4];
  const lengths: number[] = Array.from({ length: 19 }, () => 0);
  for (const place of ORDER.slice(0, count)) lengths[place] = next(3);
  const codes = codesOf(lengths);
  const all: number[] = [];
  while (all.length < literals + distances) {
    const found = symbol(codes);
    if (found < 16) all.push(found);
    else {
      const [value, repeat] =
        found === 16 ? [all.at(-1) ?? 0, 3 + next(2)] : [0, found === 17 ? 3 + next(3) : 11 + next(7)];
      for (let i = 0; i < repeat; i++) all.push(value);
    }
  }
  return [codesOf(all.slice(0, literals)), codesOf(all.slice(literals))];
}

function codesOf(lengths: readonly number[]): Codes {
  const codes = new Map<number, number>();
  let code = 0;
  for (let length = 1; length < 16; length++, code <<= 1)
    for (const [place, found] of lengths.entries()) if (found === length) codes.set((length << 16) | code++, place);
  return codes;
}

const FIXED: [Codes, Codes] = [
  codesOf(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))),
  codesOf(Array.from({ length: 30 }, () => 5)),
];

function number(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

function crcOf(bytes: readonly number[], from: number): number {
  let crc = -1;
  for (let i = from; i < bytes.length; i++) {
    crc ^= bytes[i] ?? 0;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
