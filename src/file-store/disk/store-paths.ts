/** Where everything is inside a store's directory. */
export interface StorePaths {
  readonly base: string;
  readonly streams: string;
  readonly commitLog: string;
  /** The commit log while it is being made from streams; renamed when complete. */
  readonly newCommitLog: string;
  /** The keys of personal fields. */
  readonly subjectKeys: string;
  readonly meta: string;
  readonly registry: string;
  readonly lock: string;
  /** The lock of the process that gets the store's lock next. */
  readonly turn: string;
  /** The lock of the process that removes dropped events. */
  readonly reclaim: string;
  readonly head: string;
  readonly marker: string;
  /** Only while the store is being copied into this directory: up to where it was whole before. */
  readonly copying: string;
  /** Where each stream ends. */
  readonly streamEnds: string;
  /** Where streams were cut. */
  readonly cuts: string;
  /** Foreign lines that are being moved to after committed ones. */
  readonly moves: string;
  /** Bytes that recovery, adoption or `repair` removed. Nothing reads them. */
  readonly quarantine: string;
}

export function storePaths(base: string): StorePaths {
  const meta = `${base}/meta`;
  return {
    base,
    streams: `${base}/streams`,
    commitLog: `${base}/commit_log`,
    newCommitLog: `${base}/commit_log.new`,
    subjectKeys: `${base}/keys/subjects.jsonl`,
    meta,
    registry: `${meta}/streams.jsonl`,
    lock: `${meta}/lock`,
    turn: `${meta}/turn`,
    reclaim: `${meta}/reclaim`,
    head: `${meta}/head`,
    marker: `${meta}/marker.json`,
    copying: `${meta}/copying.json`,
    streamEnds: `${meta}/stream_ends`,
    cuts: `${meta}/cuts.json`,
    moves: `${meta}/moves`,
    quarantine: `${meta}/quarantine`,
  };
}
