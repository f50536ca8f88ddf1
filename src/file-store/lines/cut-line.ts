import { type CutKind, cutOfType } from "../../cut.ts";
import { isCount } from "../../json.ts";
import { isOurLine } from "./line-scanner.ts";

/** A line with which a cut of its stream begins. */
export interface CutLine {
  readonly kind: CutKind;
  /** Of the line's event. */
  readonly version: number;
}

/** What a line says of a cut; nothing for any other line. */
export function cutOfLine(text: string): CutLine | undefined {
  if (!text.startsWith('{"type":"$') || !isOurLine(text)) return undefined;
  const { type, data } = JSON.parse(text) as {
    readonly type: string;
    readonly data: { readonly version?: unknown } | null;
  };
  const kind = cutOfType(type);
  const { version } = data ?? {};
  return kind !== undefined && isCount(version) ? { kind, version } : undefined;
}
