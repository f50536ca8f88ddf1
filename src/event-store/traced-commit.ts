import { type CommitTrace, committing } from "../tracing/tracing.ts";
import type { Commit, CommitResult, EventStore } from "./event-store.ts";

/** Commits, and publishes the commit on its tracing channel. */
export function tracedCommit(events: EventStore, commit: Commit): Promise<CommitResult> {
  if (!committing.isWatched) return events.commit(commit);
  const begin = (): CommitTrace => ({
    streams: commit.appends.map(({ stream, events: drafts }) => ({
      aggregate: stream.type,
      id: stream.id,
      events: drafts.length,
    })),
    events: commit.appends.reduce((sum, append) => sum + append.events.length, 0),
    processManager: commit.consumer?.name,
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
