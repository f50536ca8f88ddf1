import type { RecordedEvent } from "./messages.ts";

/**
 * What to do with an event of a registered aggregate whose type the contract does not declare: `"error"` (the default) fails
 * each reader that needs the aggregate's events, `"skip"` passes over it. A function decides for each event; nothing means `"skip"`.
 */
export type UnknownEventPolicy = "skip" | "error" | ((event: RecordedEvent) => "skip" | "error" | undefined | void);

/** What a policy says of an event. */
export function verdictOn(policy: UnknownEventPolicy, event: () => RecordedEvent): "skip" | "error" {
  return (typeof policy === "function" ? policy(event()) : policy) ?? "skip";
}
