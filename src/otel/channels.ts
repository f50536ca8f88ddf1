import type { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, tracingChannel, unsubscribe } from "node:diagnostics_channel";
import type {
  BatchNotice,
  CommitTrace,
  DeadLetterNotice,
  DispatchTrace,
  ExecuteTrace,
  FlushNotice,
  InstanceNotice,
  LoadTrace,
  ProjectTrace,
  ReactTrace,
} from "../tracing/tracing.ts";

/** The messages of operations. */
interface Operations {
  execute: ExecuteTrace;
  dispatch: DispatchTrace;
  commit: CommitTrace;
  load: LoadTrace;
  project: ProjectTrace;
  react: ReactTrace;
}

interface Notices {
  batch: BatchNotice;
  flush: FlushNotice;
  "dead-letter": DeadLetterNotice;
  "instance-loaded": InstanceNotice;
  "instance-evicted": InstanceNotice;
}

/** A message at the end of its operation. */
export type Ended<T> = T & { readonly error?: unknown };

/** Calls `start` and `end` for each operation. Returns the function that ends this. */
export function onOperation<N extends keyof Operations>(
  name: N,
  start: (message: Operations[N]) => void,
  end: (message: Ended<Operations[N]>) => void,
): () => void {
  const channels = channelsOf(name);
  const onStart = (message: unknown): void => start(message as Operations[N]);
  const onEnd = (message: unknown): void => end(message as Ended<Operations[N]>);
  channels.start.subscribe(onStart);
  channels.end.subscribe(onEnd);
  return () => {
    channels.start.unsubscribe(onStart);
    channels.end.unsubscribe(onEnd);
  };
}

/** The same, where the result of `start` is the value of `storage` during the operation. */
export function onScope<N extends keyof Operations, S>(
  name: N,
  storage: AsyncLocalStorage<S>,
  start: (message: Operations[N]) => S,
  end: (message: Ended<Operations[N]>) => void,
): () => void {
  const channels = channelsOf(name);
  const onEnd = (message: unknown): void => end(message as Ended<Operations[N]>);
  channels.start.bindStore(storage, (message: unknown) => start(message as Operations[N]));
  channels.end.subscribe(onEnd);
  return () => {
    channels.start.unbindStore(storage);
    channels.end.unsubscribe(onEnd);
  };
}

export function onNotice<N extends keyof Notices>(name: N, hear: (notice: Notices[N]) => void): () => void {
  const listener = (message: unknown): void => hear(message as Notices[N]);
  subscribe(`eventfold-es:${name}`, listener);
  return () => void unsubscribe(`eventfold-es:${name}`, listener);
}

/** The channels of an operation's first and last message. Reactions are synchronous. */
function channelsOf(name: keyof Operations) {
  const { start, end, asyncEnd } = tracingChannel<unknown, object>(`eventfold-es:${name}`);
  return { start, end: name === "react" ? end : asyncEnd };
}
