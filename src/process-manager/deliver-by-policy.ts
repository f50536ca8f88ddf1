import { EventfoldError } from "../errors.ts";
import { messageOf } from "../realm.ts";
import { pauseAfter } from "../subscription/retry.ts";
import {
  deliver,
  type Delivery,
  type DeliveryResult,
  type DispatcherParts,
  mayPass,
  type StepNote,
} from "./dispatcher.ts";
import type { Policy } from "./failure-policy.ts";

/** What all managers of a store have in common. */
export interface RunnerParts {
  readonly now: () => number;
  /** Waits between two attempts, in milliseconds. Throws when the store closes meanwhile. */
  readonly wait: (ms: number) => Promise<void>;
  /** Told of failures that end no run: of what a manager skips. */
  readonly onError: (error: unknown) => void;
}

/** Sends a command, as often as a policy says. Throws when the policy is to stop, and for a failure that may pass. */
export async function deliverByPolicy(
  parts: DispatcherParts & RunnerParts,
  delivery: Delivery,
  note: StepNote,
  { attempts, backoff, end }: Policy,
): Promise<DeliveryResult> {
  for (let failures = 1; ; failures++) {
    const isLast = failures >= attempts;
    try {
      const result = await deliver(parts, delivery, note, isLast && end !== "stop" ? end : "throw");
      if (result.kind === "skipped") parts.onError(failedCommand(delivery, "skipped", result.error));
      return result;
    } catch (error) {
      if (mayPass(error)) throw error;
      if (isLast) throw failedCommand(delivery, "stopped at", error);
      await parts.wait(pauseAfter(failures, backoff));
    }
  }
}

/** The error of a command at which a manager has stopped, or which it has skipped. */
function failedCommand(
  { manager, envelope, cause }: Delivery,
  what: "stopped at" | "skipped",
  error: unknown,
): EventfoldError {
  const { aggregate, id, command } = envelope;
  const from =
    cause === undefined ? "" : `, caused by ${cause.aggregate} ${JSON.stringify(cause.id)}, version ${cause.version}`;
  return new EventfoldError(
    "PROCESS_MANAGER_FAILED",
    `process manager ${manager} ${what} the command ${command.type} of ${aggregate} ${JSON.stringify(id)}${from}: ${messageOf(error)}`,
    { cause: error },
  );
}
