/** Orders strings by their code points, which is the order of their UTF-8 bytes. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates stand for code points above all of U+E000–U+FFFF although their units are lower.
    const xs = (x & 0xf800) === 0xd800;
    const ys = (y & 0xf800) === 0xd800;
    return xs === ys ? x - y : xs ? 1 : -1;
  }
  return a.length - b.length;
}
