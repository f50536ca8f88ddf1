/** Who waits for each signal. Node.js 20 warns of a leak at the eleventh listener of one signal, so there is one for all of them. */
const waiting = new WeakMap<AbortSignal, { readonly calls: Set<() => void>; readonly listener: () => void }>();

/** Calls back once when the signal is aborted, at once if it is already. Returns the function that takes the call back. */
export function whenAborted(signal: AbortSignal, call: () => void): () => void {
  if (signal.aborted) {
    call();
    return () => {};
  }
  let entry = waiting.get(signal);
  if (entry === undefined) {
    const calls = new Set<() => void>();
    entry = { calls, listener: () => [...calls].forEach((each) => each()) };
    waiting.set(signal, entry);
    signal.addEventListener("abort", entry.listener, { once: true });
  }
  const { calls, listener } = entry;
  const own = (): void => call();
  calls.add(own);
  return () => {
    if (!calls.delete(own) || calls.size > 0) return;
    signal.removeEventListener("abort", listener);
    waiting.delete(signal);
  };
}

/** A promise that also ends, with the signal's reason, when the signal is aborted. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const unlink = whenAborted(signal, () => reject(signal.reason));
    void promise.then(resolve, reject).finally(unlink);
  });
}

/**
 * A signal that is aborted when one of the others is, until `release` is called. `AbortSignal.any` cannot let go: in Node.js 20 each
 * signal that it makes stays in memory as long as those it was made of.
 */
export function anyAborted(signals: readonly (AbortSignal | undefined)[]): {
  readonly signal: AbortSignal;
  readonly release: () => void;
} {
  const controller = new AbortController();
  const links = signals.map((signal) =>
    signal === undefined ? () => {} : whenAborted(signal, () => controller.abort()),
  );
  return { signal: controller.signal, release: () => links.forEach((unlink) => unlink()) };
}
