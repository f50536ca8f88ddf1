export * from "./contract.ts";
export type { UnknownEventPolicy } from "./aggregate/unknown-event-policy.ts";
export { AggregateStore } from "./aggregate-store/store-entry.ts";
export type { AggregateStoreBuilder } from "./aggregate-store/aggregate-store-builder.ts";
export { checkReplay, type ReplayDifference } from "./aggregate-store/check-replay.ts";
export type { DispatchAllResult } from "./aggregate-store/registered.ts";
export type { EnvelopeFor, Middleware } from "./aggregate-store/middleware.ts";
export type { UnknownEventStatus } from "./projection/unknown-events.ts";
export type { ConsumerStatus, ProcessManagerStatus, StoreStatus } from "./aggregate-store/store-status.ts";
export type { StoreBackupOptions } from "./aggregate-store/backup.ts";
export {
  type CopyProgress,
  follow,
  type FollowOptions,
  restore,
  type RestoreOptions,
} from "./aggregate-store/directory-copies.ts";
export type { ExportOptions, TransferProgress } from "./transfer/export-store.ts";
export type { ImportOptions, ImportReport } from "./transfer/import-store.ts";
export type { ReadEventsOptions } from "./aggregate-store/read-events.ts";
export type { EventFilter, RecordedEventOf, SelectedEvent } from "./subscription/event-filter.ts";
export type { Explanation } from "./aggregate/instance/explained-state.ts";
export type { ValueChange, ValuePath } from "./aggregate/value-changes.ts";
export type { AggregateHandle } from "./aggregate-store/aggregate-handle.ts";
export type { CommandAttempt, CommandResult } from "./aggregate-store/command-result.ts";
export type { CommandOptions, DispatchAllOptions } from "./aggregate-store/command-options.ts";
export type { IdleOptions } from "./aggregate-store/idle.ts";
export type { StateOptions } from "./aggregate-store/instances.ts";
export type { Duration } from "./duration.ts";
export type { CodeVersion } from "./fingerprint.ts";
export {
  CommandRejectedError,
  ConflictError,
  CorruptionError,
  type ErrorCode,
  type ErrorWithCode,
  EventfoldError,
  InvalidCommandError,
  InvalidPayloadError,
  InvalidStateError,
  isEventfoldError,
  type PayloadIssue,
} from "./errors.ts";
export { type CompactionData, CUT_TYPES, type CutData, type CutKind } from "./cut.ts";
export { memory } from "./event-store/memory-storage.ts";
export type { SubjectKey, SubjectKeys } from "./event-store/subject-keys.ts";
export type { EventStorage, StorageOptions } from "./event-store/event-storage.ts";
export type {
  BackupOptions,
  BackupReport,
  Checkpoint,
  Commit,
  CommitChain,
  CommitResult,
  ConsumerAppend,
  ConsumerKind,
  ConsumerNote,
  EventDraft,
  EventStore,
  EventStoreCapabilities,
  EventTypes,
  NameLease,
  ReadAllOptions,
  ReadStreamOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StoredMeta,
  StoreProgress,
  StoreSizes,
  StreamAppend,
  StreamName,
} from "./event-store/event-store.ts";
export { CommandBus, type RoutableCommand, type UnknownCommandOptions } from "./command-bus/command-bus.ts";
export {
  type AnyProjection,
  type EventHandlers,
  type Projection,
  projection,
  type ProjectionOptions,
  type ProjectionState,
  type ReadProjection,
} from "./projection/projection.ts";
export type { RebuildOptions } from "./projection/projection-runner.ts";
export type { ReadProjectionOptions } from "./projection/projections.ts";
export type { CompileError } from "./compile-error.ts";
export type { CompactOptions, CompactResult } from "./aggregate-store/compact-instance.ts";
export type { StoreReclaimOptions, StoreReclaimReport } from "./aggregate-store/reclaim.ts";
export type { DeleteOptions, DeleteResult } from "./aggregate-store/delete-instance.ts";
export type { InjectedEvent, InjectOptions, InjectResult } from "./aggregate-store/inject-event.ts";
export type { HandlerOptions, SubscribeOptions, Subscription } from "./subscription/subscription.ts";
export type { RetryOptions } from "./subscription/retry.ts";
export {
  type AnyProcessManager,
  type ProcessManager,
  processManager,
  type ProcessManagerOptions,
  type Reaction,
  type Scheduled,
} from "./process-manager/process-manager.ts";
export type { ProcessManagerReport } from "./process-manager/process-manager-runner.ts";
export type { Schedule, ScheduleOptions } from "./process-manager/schedule-runner.ts";
export type { DeadLetter, ReplayOptions } from "./process-manager/dead-letter.ts";
export type { FailureEnd, FailurePolicies, FailurePolicy } from "./process-manager/failure-policy.ts";
