import { EventfoldError } from "../../errors.ts";
import { monotonicNow, sleep } from "../../real-timers.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { fail, type QueuedCommit } from "./queued-commit.ts";

/** How long the Rust crate may hold a stream before the commands to it fail. */
const STREAM_PATIENCE_MS = 2000;
const RETRY_MS = 10;

/** A stream whose foreign lines a reader wants to have committed. */
export interface Adoption {
  readonly key: StreamKey;
  /** Its file may lack committed lines. */
  readonly isDoubtful: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What waits to be written: commits in the order of their calls, those whose stream is locked elsewhere, and adoptions. */
export class CommitQueue {
  #commits: QueuedCommit[] = [];
  /** Commits to streams that the Rust crate holds. */
  #locked: QueuedCommit[] = [];
  #adoptions: Adoption[] = [];
  #arrived: (() => void) | undefined;
  readonly #lockedBy: (key: StreamKey) => string;

  /** `lockedBy` says, as a clause of an error message, which process has the lock of a stream's file. */
  constructor(lockedBy: (key: StreamKey) => string) {
    this.#lockedBy = lockedBy;
  }

  /** How many commits can be written now. */
  get length(): number {
    return this.#commits.length;
  }

  get isEmpty(): boolean {
    return this.#commits.length === 0 && this.#adoptions.length === 0;
  }

  add(commit: QueuedCommit): void {
    this.#commits.push(commit);
    this.#arrived?.();
  }

  addAdoption(adoption: Adoption): void {
    this.#adoptions.push(adoption);
    this.#arrived?.();
  }

  /** Removes and returns all commits that can be written now. */
  removeAll(): QueuedCommit[] {
    const commits = this.#commits;
    this.#commits = [];
    return commits;
  }

  removeAdoptions(): Adoption[] {
    const adoptions = this.#adoptions;
    this.#adoptions = [];
    return adoptions;
  }

  /** Puts commits back that did not fit, ahead of those that have come since. */
  putBack(commits: readonly QueuedCommit[]): void {
    this.#commits = [...commits, ...this.#commits];
  }

  /** Keeps a commit until its streams may be free. */
  putLocked(commit: QueuedCommit): void {
    this.#locked.push(commit);
  }

  /** Whether an earlier commit to one of its streams waits for the Rust crate: then this one waits after it. */
  isLocked({ appends }: QueuedCommit): boolean {
    return this.#locked.some((other) => other.appends.some(({ key }) => appends.some((append) => append.key === key)));
  }

  /** Lets the locked commits try again, after a pause; fails those that have waited too long. */
  async retryLocked(): Promise<void> {
    if (this.#locked.length === 0) return;
    const now = monotonicNow();
    const again: QueuedCommit[] = [];
    for (const commit of this.#locked) {
      commit.lockedSince ??= now;
      if (now - commit.lockedSince < STREAM_PATIENCE_MS) again.push(commit);
      else fail(commit, this.#streamLocked(commit));
    }
    this.#locked = [];
    this.putBack(again);
    if (again.length > 0) await sleep(RETRY_MS);
  }

  /** Resolves when something is added. Only the last call does. */
  arrival(): Promise<void> {
    return new Promise((resolve) => (this.#arrived = resolve));
  }

  stopWaiting(): void {
    this.#arrived = undefined;
  }

  /** Fails everything that waits. */
  failAll(error: Error): void {
    const commits = [...this.#locked, ...this.#commits];
    this.#locked = [];
    this.#commits = [];
    for (const commit of commits) fail(commit, error);
    for (const { reject } of this.removeAdoptions()) reject(error);
  }

  #streamLocked({ appends }: QueuedCommit): EventfoldError {
    const found = appends.map(({ key }) => `${key}: ${this.#lockedBy(key)}`).join("; ");
    return new EventfoldError(
      "STREAM_LOCKED",
      `expected the lock of the instance's file within ${STREAM_PATIENCE_MS / 1000} s, found another process (${found}). ` +
        "The Rust crate eventfold-es keeps the lock for 5 minutes after it last used the instance. The command was not written",
    );
  }
}
