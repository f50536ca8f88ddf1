import { type CommitTrace, committing, type ExecuteTrace } from "../tracing/tracing.ts";
import type { Commit, CommitResult, EventStore } from "./event-store.ts";

/**
 * Commits, and publishes the commit on its tracing channel. `execution` is the trace of the command that made the events, `causeId` the
 * id of the event whose reaction the commit notes.
 */
export function tracedCommit(
  events: EventStore,
  commit: Commit,
  execution?: ExecuteTrace,
  causeId?: string,
): Promise<CommitResult> {
  if (!committing.isWatched) return events.commit(commit);
  const begin = (): CommitTrace => ({
    streams: commit.appends.map(({ stream, events: drafts }) => ({
      aggregate: stream.type,
      id: stream.id,
      events: drafts.length,
    })),
    events: commit.appends.reduce((sum, append) => sum + append.events.length, 0),
    eventIds: commit.appends.flatMap((append) =>
      append.events.flatMap(({ eventId }) => (eventId === undefined ? [] : [eventId])),
    ),
    processManager: commit.consumer?.name,
    execution,
    causeId,
  });
  return committing.promise(begin, (trace) => {
    const committed = events.commit(commit);
    if (trace === undefined) return committed;
    return committed.then((result) => {
      if (result.ok) trace.position = result.position;
      else trace.conflict = true;
      return result;
    });
  });
}
