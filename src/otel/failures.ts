/** The type of the rejection that an error reports. */
export function rejectionOf(error: unknown): string | undefined {
  const { code, rejection } = fieldsOf(error);
  if (code !== "COMMAND_REJECTED") return undefined;
  const { type } = fieldsOf(rejection);
  return typeof type === "string" ? type : undefined;
}

/** The value of `error.type`: the error's code, or the name of its class. */
export function errorTypeOf(error: unknown): string {
  const { code, name } = fieldsOf(error);
  if (typeof code === "string") return code;
  return typeof name === "string" && name !== "" ? name : "_OTHER";
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
