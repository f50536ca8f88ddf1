import type { FullName } from "../../stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { storeRecovered } from "../../tracing/tracing.ts";
import type { Applier } from "../apply/applier.ts";
import type { LogFollower } from "../apply/log-follower.ts";
import type { UnsettledStreams } from "../apply/unsettled-streams.ts";
import { quarantine } from "../disk/quarantine.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { endsBefore, type LogPlace } from "../log/log-place.ts";
import { wasDurable } from "../log/durable-tail.ts";
import type { StreamRegistry } from "../streams/stream-registry.ts";
import type { Checkpointer } from "./checkpointer.ts";

export interface RecoveryParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly log: CommitLog;
  readonly follower: LogFollower;
  readonly registry: StreamRegistry;
  readonly applier: Applier;
  readonly unsettled: UnsettledStreams;
  readonly checkpointer: Checkpointer;
}

/** How long recovery waits for the streams that the Rust crate holds before it leaves them for later. */
const STREAM_PATIENCE_MS = 500;

/** Completes what a dead process began: accepts the whole records at the end of the log, and cuts off a torn one. */
export class Recovery {
  readonly #parts: RecoveryParts;

  constructor(parts: RecoveryParts) {
    this.#parts = parts;
  }

  /**
   * Leaves the log fit for the next record, from the known end of the log on:
   *
   * 1. flush the log: a dead process may not have, and nothing may reach the streams' files that could still vanish;
   * 2. apply whole records to the streams' files, as many as there are; lines that the Rust crate has appended in their place
   *    move to after them;
   * 3. if what follows them was once durable, it is damage: throw `CORRUPT_LOG` and cut nothing;
   * 4. otherwise it is a torn write: copy it to the quarantine and cut it off.
   *
   * Needs the store's lock.
   */
  async recover(): Promise<void> {
    const { paths, log, follower, registry, applier, unsettled, checkpointer } = this.#parts;
    const from = log.end;
    const announced = follower.announced();
    await log.flushFrom(from);
    let registered: Set<FullName> | undefined;
    const { end, invalid } = unsettled.whileAppending(() =>
      follower.readTail((record) => {
        registered ??= registry.names();
        applier.reapply(record, registered);
      }),
    );
    if (wasDurable(log, end) || (announced !== undefined && endsBefore(end, announced)))
      throw log.scanner.corruption(end, invalid ?? "records are missing");
    unsettled.addBegunMoves();
    await unsettled.settleAll(STREAM_PATIENCE_MS);
    await checkpointer.announceUnsettled();
    const tornBytes = await this.#cutTornTail(end);
    await log.renewBeginning();
    follower.announceEnd();
    checkpointer.schedule();
    const { position } = log.end;
    if (position > from.position || tornBytes > 0)
      storeRecovered.publish(() => ({ directory: paths.base, from: from.position, position, tornBytes }));
  }

  /** Moves the bytes after the last record to the quarantine. Returns how many there were. */
  async #cutTornTail({ segment, offset }: LogPlace): Promise<number> {
    const { fs, paths, log } = this.#parts;
    const tail = log.tail();
    if (tail.length > 0) {
      await quarantine(fs, paths, `commit_log.${segment}.${offset}`, tail);
      await log.cutTail();
    }
    return tail.length;
  }
}
