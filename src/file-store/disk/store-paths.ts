/** Where everything is inside a store's directory. */
export interface Layout {
  readonly base: string;
  readonly streams: string;
  readonly commitLog: string;
  /** The commit log while it is being made from streams; renamed when complete. */
  readonly newCommitLog: string;
  readonly meta: string;
  readonly registry: string;
  readonly lock: string;
  readonly head: string;
  readonly marker: string;
  /** Where each stream ends. */
  readonly streamEnds: string;
  /** Bytes that recovery removed, kept for people to look at. */
  readonly aside: string;
}

export function layoutOf(base: string): Layout {
  const meta = `${base}/meta`;
  return {
    base,
    streams: `${base}/streams`,
    commitLog: `${base}/commit_log`,
    newCommitLog: `${base}/commit_log.new`,
    meta,
    registry: `${meta}/streams.jsonl`,
    lock: `${meta}/lock`,
    head: `${meta}/head`,
    marker: `${meta}/marker.json`,
    streamEnds: `${meta}/stream_ends`,
    aside: `${meta}/aside`,
  };
}
