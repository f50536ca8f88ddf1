import type { Commit, CommitChain, StreamName } from "../../event-store/event-store.ts";
import { type FullName, fullNameOf } from "../../stream-names.ts";
import { commitText } from "./batch-message.ts";

export interface PreparedAppend {
  readonly stream: StreamName;
  readonly key: FullName;
  readonly expectedVersion: number;
  /** How many events it has. */
  readonly events: number;
}

/** A commit as text. If the caller changes its objects after the call, the commit stays the same. */
export interface PreparedCommit {
  readonly appends: readonly PreparedAppend[];
  readonly consumer: { readonly name: string; readonly expectedSequence: number } | undefined;
  readonly chain: CommitChain | undefined;
  /** Whether it writes anything, or only compares versions. */
  readonly writes: boolean;
  readonly text: string;
  /** Length of the text in bytes. */
  readonly size: number;
}

export function prepared(commit: Commit): PreparedCommit {
  const { consumer, chain } = commit;
  const appends = commit.appends.map(({ stream, expectedVersion, events }) => ({
    ...{ stream, key: fullNameOf(stream), expectedVersion, events: events.length },
  }));
  const writes = consumer !== undefined || appends.some(({ events }) => events > 0);
  const text = writes ? commitText(commit) : "";
  const size = Buffer.byteLength(text);
  return {
    ...{ appends, chain, writes, text, size },
    consumer: consumer && { name: consumer.name, expectedSequence: consumer.expectedSequence },
  };
}
