/** A signal that is aborted when the process is asked to end, by Ctrl-C for example. */
export function interrupted(): AbortSignal {
  const ended = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => ended.abort());
  return ended.signal;
}
