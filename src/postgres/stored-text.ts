/**
 * PostgreSQL's text cannot hold U+0000, which ids may have. U+0000 is written as U+0001 U+0001, and U+0001 as U+0001 U+0002: no two
 * texts become one, and the order of code points stays.
 */
export function toStored(text: string): string {
  return /[\u0000\u0001]/.test(text)
    ? text.replace(/[\u0000\u0001]/g, (character) => (character === "\u0000" ? "\u0001\u0001" : "\u0001\u0002"))
    : text;
}

export function fromStored(text: string): string {
  return text.includes("\u0001")
    ? text.replace(/\u0001([\u0001\u0002])/g, (_, mark) => (mark === "\u0001" ? "\u0000" : "\u0001"))
    : text;
}
