import { checkContext, metaOf } from "../aggregate/context.ts";
import { type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { CommandContext } from "../aggregate/messages.ts";
import type { Environment } from "../aggregate/model.ts";
import { EventfoldError } from "../errors.ts";
import { CUT_TYPES, type CutData } from "../cut.ts";
import type { EventDraft, EventStore, StreamAppend, StreamName } from "../event-store/event-store.ts";
import { isWellFormed } from "../json.ts";

export interface DeleteOptions extends Omit<CommandContext, "idempotencyKey"> {
  /** The instance must not live again: later commands fail with `INSTANCE_DELETED`. Default: false. */
  readonly final?: boolean;
  /** Why. It stays in the store, so name no person in it. */
  readonly reason?: string;
}

export interface DeleteResult {
  /** False when the instance had no events: then nothing was written, unless the deletion is final. */
  readonly deleted: boolean;
  /** Version of the instance afterwards. */
  readonly version: number;
  /** Position of the instance's last event afterwards. */
  readonly position: number;
}

/** Drops the events of an instance. */
export function deleteInstance(
  lessor: Lessor,
  store: EventStore,
  stream: StreamName,
  options: DeleteOptions,
  environment: Environment,
): Promise<DeleteResult> {
  checkOptions(options);
  return withLeases(lessor, store, [stream], async (leases): Promise<Proposal<DeleteResult>> => {
    const lease = leases.of(stream);
    const { version, position } = lease.outcome;
    const { exists, isFinal } = lease;
    const isWritten = !isFinal && (exists || options.final === true);
    const cut = (of: StreamName, expectedVersion: number): StreamAppend => ({
      stream: of,
      expectedVersion,
      events: [deletion(expectedVersion + 1, options, environment)],
      cut: "deleted",
    });
    const unchanged: StreamAppend = { stream, expectedVersion: version, events: [] };
    const outcomes = await lease.readOutcomes();
    if (outcomes.isEmpty && !isWritten)
      return { kind: "verdict", answer: () => ({ deleted: false, version, position }) };
    const appends = [
      outcomes.isEmpty ? outcomes.check : cut(outcomes.stream, outcomes.version),
      // The last one, so that the position is its.
      isWritten ? cut(stream, version) : unchanged,
    ];
    return {
      kind: "commit",
      commit: { appends },
      written: (last) => {
        lease.markOutdated();
        lease.markOutcomesOutdated();
        return isWritten
          ? { deleted: exists, version: version + 1, position: last }
          : { deleted: false, version, position };
      },
    };
  });
}

function deletion(version: number, options: DeleteOptions, { now, nextId }: Environment): EventDraft {
  const { final = false, reason, ...context } = options;
  const data: CutData = { version, final, ...(reason === undefined ? {} : { reason }) };
  return {
    type: CUT_TYPES.deleted,
    data: JSON.stringify(data),
    schemaVersion: 0,
    timestamp: now(),
    eventId: nextId(),
    actor: context.actor,
    meta: metaOf(context),
  };
}

function checkOptions({ final, reason, ...context }: DeleteOptions): void {
  checkContext(context);
  if (final !== undefined && typeof final !== "boolean")
    throw new EventfoldError("INVALID_ARGUMENT", `delete expected final to be true or false, found ${String(final)}`);
  if (reason !== undefined && !(typeof reason === "string" && isWellFormed(reason)))
    throw new EventfoldError("INVALID_ARGUMENT", `delete expected reason to be Unicode text, found ${typeof reason}`);
}
