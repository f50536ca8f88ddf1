import { EventfoldError } from "../errors.ts";
import { sameJson, stringifyPayload } from "../json.ts";
import { isTypeOnly, type Payload } from "./payload.ts";
import { parsed, shownIssues, validated } from "./validate.ts";

/** An event's payload as it is written, and as it will be read back: the state in memory is the one that the file will give. */
export function writtenPayload(
  payload: Payload,
  given: unknown,
  what: string,
): { readonly text: string; readonly data: unknown } {
  // A value of its own, also if `handle` passes the command's on: that belongs to `handle`, which may be asked again, and this one to
  // the states and results that keep it.
  if (isTypeOnly(payload)) {
    const text = stringifyPayload(given, what);
    return { text, data: text === "null" ? undefined : JSON.parse(text) };
  }
  const text = stringifyPayload(parsed(payload, given, what), what);
  return { text, data: readAgain(payload, JSON.parse(text), what) };
}

/** What reading will make of a payload. Throws `INVALID_DEFINITION` if that is not the payload itself. */
function readAgain(payload: Payload, stored: unknown, what: string): unknown {
  let again = validated(payload, stored ?? undefined, what);
  if (again.issues !== undefined && stored === null) again = validated(payload, null, what);
  if (again.issues === undefined && sameJson(again.value ?? null, stored)) return again.value;
  const problem =
    again.issues === undefined
      ? `it makes ${JSON.stringify(again.value)} of its own result ${JSON.stringify(stored)}`
      : `it refuses its own result ${JSON.stringify(stored)}: ${shownIssues(again.issues)}`;
  throw new EventfoldError(
    "INVALID_DEFINITION",
    `${what}: expected a schema that leaves its own result as it is, because events are parsed again when they are read; ${problem}. Convert in the command's schema or in handle`,
  );
}
