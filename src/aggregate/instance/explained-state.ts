import type { EventStore, StreamName } from "../../event-store/event-store.ts";
import { freeze } from "../freeze.ts";
import type { RecordedEvent } from "../messages.ts";
import type { AggregateModel, Environment } from "../model.ts";
import { isSameValue, valueAt, type ValuePath } from "../value-changes.ts";
import { explained } from "./past-state.ts";

/** An event that has changed a part of a state, and that part before and after it. */
export type Explanation<Event = RecordedEvent> = Event & { readonly before: unknown; readonly after: unknown };

/** The events of a stream that have changed the part of the state at a path, the newest first. Folds all events of the stream. */
export async function explain(
  stream: StreamName,
  model: AggregateModel,
  store: EventStore,
  environment: Environment,
  path: ValuePath,
): Promise<Explanation[]> {
  const found: Explanation[] = [];
  let state = model.initial();
  let before = valueAt(state, path);
  for await (const batch of store.readStream(stream)) {
    for (const stored of batch) {
      for (const event of model.reader.storedParts(stored)) {
        try {
          state = freeze(model.fold(state, event, environment.onUnknownEvent));
        } catch (error) {
          throw await explained(error, stream, environment);
        }
        const after = valueAt(state, path);
        if (!isSameValue(before, after)) found.push({ ...model.reader.recordedCurrent(event), before, after });
        before = after;
      }
    }
  }
  return found.reverse();
}
