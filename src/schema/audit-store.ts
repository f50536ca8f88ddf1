import type { AnyContract } from "../aggregate/aggregate.ts";
import { EventReader } from "../aggregate/event-reader.ts";
import { partsOf } from "../aggregate-store/store-parts.ts";
import { isEventfoldError } from "../errors.ts";
import { cutOfType } from "../cut.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { messageOf } from "../realm.ts";

/** Stored events that a model cannot read. */
export interface AuditFinding {
  readonly aggregate: string;
  /** The type that the events are stored with. */
  readonly event: string;
  /** `unknown`: not declared and not in the history. `newer`: of more steps than declared. `failed`: a step throws, or a schema refuses. */
  readonly kind: "unknown" | "newer" | "failed";
  readonly count: number;
  /** Position of the first one. */
  readonly position: number;
  /** Why the first one cannot be read. */
  readonly message: string;
}

/** Reads every event of an open store with a model, and returns the events that it cannot read. Aggregates that are not named do not count. */
export async function auditStore(store: object, contracts: readonly AnyContract[]): Promise<AuditFinding[]> {
  const { events } = partsOf(store);
  const readers = new Map(contracts.map((contract) => [contract.type, new EventReader(contract)]));
  const findings = new Map<string, AuditFinding>();
  await refreshBeforeReading(events);
  for await (const batch of events.readAll()) {
    for (const event of batch) {
      const { stream, type, position } = event;
      const reader = readers.get(stream.type);
      if (reader === undefined || cutOfType(type) !== undefined) continue;
      let kind: AuditFinding["kind"] = "unknown";
      let message = `${stream.type} ${JSON.stringify(stream.id)}, version ${event.version}: the model does not declare ${type}`;
      if (reader.storedTypes.has(type)) {
        try {
          reader.parts(event);
          continue;
        } catch (error) {
          kind = isEventfoldError(error, "UNKNOWN_EVENT") ? "newer" : "failed";
          message = messageOf(error);
        }
      }
      const key = `${kind} ${stream.type}/${type}`;
      const first = findings.get(key) ?? { aggregate: stream.type, event: type, kind, count: 0, position, message };
      findings.set(key, { ...first, count: first.count + 1 });
    }
  }
  return [...findings.values()];
}
