import { orAborted, whenAborted } from "../abort.ts";
import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import type { Unfinished } from "../event-store/unfinished.ts";
import { LONGEST_TIMER_MS, startTimer } from "../real-timers.ts";
import { messageOf } from "../realm.ts";

/** How long `idle` waits. */
export interface IdleOptions {
  /** Ends the waiting: `idle` fails with the signal's reason. The work goes on. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds or a text like `"5s"`. Then `idle` fails with `TIMEOUT`, which names what has work left. Without it, `idle` waits for ever. */
  readonly timeout?: number | Duration | undefined;
}

/** What `idle` asks. */
export interface IdleParts {
  readonly events: EventStore;
  /** Throws when the store is closed. */
  readonly checkOpen: () => void;
  /** Whether no command is under way. */
  readonly isQuiet: () => boolean;
  /** The readers that have not handled everything up to a position. */
  readonly unfinished: (head: number) => readonly Unfinished[];
}

/** Work is often done within a millisecond; a reader that fails is tried again after half a minute. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 50;

/** Resolves when no command is under way, and every reader has handled every event. */
export async function untilIdle(parts: IdleParts, { signal, timeout }: IdleOptions): Promise<void> {
  const ms = timeout === undefined ? Infinity : milliseconds(timeout, "timeout");
  const ended = new AbortController();
  const unlink = signal === undefined ? () => {} : whenAborted(signal, () => ended.abort(signal.reason));
  let left: readonly Unfinished[] = [];
  const cancel = ms > LONGEST_TIMER_MS ? () => {} : startTimer(() => ended.abort(timedOut(ms, left)), ms, "foreground");
  try {
    for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(wait * 2, LONGEST_PAUSE_MS)) {
      ended.signal.throwIfAborted();
      left = await orAborted(workLeft(parts), ended.signal);
      if (left.length === 0) return;
      await pause(wait, ended.signal);
    }
  } finally {
    cancel();
    unlink();
  }
}

async function workLeft({ events, checkOpen, isQuiet, unfinished }: IdleParts): Promise<readonly Unfinished[]> {
  checkOpen();
  await refreshBeforeReading(events);
  const head = await events.head();
  const readers = unfinished(head);
  if (readers.length > 0) return readers;
  // Readers have not handled a commit that came meanwhile.
  const isOver = isQuiet() && (await events.head()) === head;
  checkOpen();
  return isOver ? [] : [{ what: "a command", position: head, failure: undefined }];
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      cancel();
      unlink();
      resolve();
    };
    const cancel = startTimer(finish, ms, "foreground");
    let unlink = (): void => {};
    unlink = whenAborted(signal, finish);
  });
}

function timedOut(ms: number, left: readonly Unfinished[]): EventfoldError {
  const found = left.map(({ what, position, failure }) => {
    const problem = failure === undefined ? "" : `, and failing: ${messageOf(failure.error)}`;
    return `${what} (at position ${Math.max(position, 0)}${problem})`;
  });
  const cause = left.find(({ failure }) => failure !== undefined)?.failure?.error;
  return new EventfoldError(
    "TIMEOUT",
    `expected the store to be idle within ${ms} ms, found work left for ${found.join(", ") || "the store"}. The work goes on; wait longer, or correct what fails`,
    cause === undefined ? {} : { cause },
  );
}
