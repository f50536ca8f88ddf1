import { EventfoldError } from "../errors.ts";

/** The name is a directory's on every system, so it is plain ASCII. */
const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,99}$/;
const RESERVED = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])$/i;

export function checkConsumerName(kind: string, name: unknown): void {
  if (typeof name !== "string" || !NAME.test(name) || RESERVED.test(name)) {
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${kind} name ${JSON.stringify(name)} is not a plain identifier (ASCII letters, digits, _ and -, at most 100, not a device name)`,
    );
  }
}
