export type { FileHandle, FileSystem, LockFile } from "../fs/file-system.ts";
export { openNodeFileSystem } from "../fs/node-file-system.ts";
export type { DiskCall, DiskFault, DiskOperation } from "./disk/disk-call.ts";
export type { SimulatedProcess } from "./disk/simulated-process.ts";
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
export { checkEvents, nameOf, type SeenEvent } from "./crash/check-events.ts";
export { checkStoreFiles, type StoreFiles } from "./crash/check-store-files.ts";
export { checkInvariants, type EventReader, type InvariantOptions } from "./crash/crash-invariants.ts";
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
export type { AggregateOutcome, AggregateSpec } from "./spec/aggregate-spec.ts";
export type { GivenEvent } from "./spec/given-event.ts";
export type { ProcessManagerOutcome, ProcessManagerSpec } from "./spec/process-manager-spec.ts";
export type { ProjectionSpec } from "./spec/projection-spec.ts";
export { spec } from "./spec/spec.ts";
