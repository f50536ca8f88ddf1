export type { FileHandle, FileSystem, LockFile } from "../fs/file-system.ts";
export { openNodeFileSystem } from "../fs/node-file-system.ts";
export type { DiskCall, DiskFault, DiskOperation, SimulatedProcess } from "./crash/simulated-process.ts";
export { PowerCutError, SimulatedDisk, type SimulatedDiskOptions } from "./disk/simulated-disk.ts";
export { type DiskAfterPowerCut, diskAfterKill, disksAfterPowerCut, type PowerCutOptions } from "./disk/power-cut.ts";
export { exploreCrashes } from "./crash/crash-explorer.ts";
export {
  CrashError,
  type CrashRemains,
  type CrashReport,
  type CrashScenario,
  type CrashWorld,
  type TrackedCommit,
} from "./crash/crash-scenario.ts";
export {
  checkEvents,
  checkInvariants,
  checkStoreFiles,
  type EventReader,
  type InvariantOptions,
  nameOf,
  type SeenEvent,
  type StoreFiles,
} from "./crash/crash-invariants.ts";
export { eventStoreContract, type EventStoreContractOptions } from "./contract/event-store-contract.ts";
export type {
  Checkpoint,
  Commit,
  CommitResult,
  ConsumerAppend,
  ConsumerKind,
  ConsumerNote,
  EventDraft,
  EventStore,
  EventStoreCapabilities,
  ReadStreamOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StoredMeta,
  StreamAppend,
  StreamName,
} from "../event-store/event-store.ts";
export { type ManualClock, manualClock, sequentialIds } from "./clock.ts";
export {
  type AggregateOutcome,
  type AggregateSpec,
  type GivenEvent,
  type ProcessManagerOutcome,
  type ProcessManagerSpec,
  type ProjectionSpec,
  spec,
} from "./spec.ts";
