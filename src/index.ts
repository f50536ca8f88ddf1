export { aggregate } from "./aggregate/aggregate.ts";
export type {
  Aggregate,
  AggregateContract,
  AnyAggregate,
  AnyContract,
  AppliedEvent,
  Behaviour,
  CommandOf,
  ContractOptions,
  DeepReadonly,
  DefinableContract,
  EventOf,
  HandleArguments,
  RejectionOf,
  StateOf,
} from "./aggregate/aggregate.ts";
export { data } from "./aggregate/payload.ts";
export type {
  DataOf,
  InputOf,
  NotJson,
  Payload,
  Payloads,
  StandardSchema,
  TypedPayload,
  ValidationResult,
} from "./aggregate/payload.ts";
export type {
  CommandContext,
  CommandEnvelope,
  Constructors,
  InputConstructors,
  InputMessages,
  EnvelopeConstructors,
  EventRecord,
  Message,
  Messages,
  RecordedEvent,
  Rejection,
  Rejections,
} from "./aggregate/messages.ts";
export type { UnknownEventPolicy } from "./aggregate/model.ts";
export {
  AggregateStore,
  type AggregateStoreBuilder,
  type DispatchAllResult,
  type EnvelopeFor,
  type RecordedEventOf,
} from "./aggregate-store/aggregate-store.ts";
export type { AggregateHandle, CommandAttempt, CommandResult } from "./aggregate-store/aggregate-handle.ts";
export type { StateOptions } from "./aggregate-store/instances.ts";
export type { Duration } from "./duration.ts";
export {
  CommandRejectedError,
  ConflictError,
  CorruptionError,
  type ErrorCode,
  EventfoldError,
  isEventfoldError,
} from "./errors.ts";
export type { StreamName } from "./event-store/event-store.ts";
export { CommandBus, type Middleware, type RoutableCommand } from "./command-bus/command-bus.ts";
export {
  type AnyProjection,
  type EventHandlers,
  type Projection,
  projection,
  type ProjectionState,
} from "./projection/projection.ts";
export type { RebuildOptions } from "./projection/projection-runner.ts";
export type { ReadProjectionOptions } from "./projection/projections.ts";
export type { InjectedEvent, InjectOptions, InjectResult } from "./aggregate-store/inject-event.ts";
export type { SubscribeOptions, Subscription } from "./subscription/subscription.ts";
export {
  type AnyProcessManager,
  type ProcessManager,
  processManager,
  type ProcessManagerOptions,
  type Reaction,
  type Scheduled,
} from "./process-manager/process-manager.ts";
export type { ProcessManagerReport } from "./process-manager/process-manager-runner.ts";
export type { DeadLetter } from "./process-manager/dead-letter.ts";
export { repair, verify } from "./doctor/doctor.ts";
export type {
  Finding,
  FindingKind,
  FindingSeverity,
  RepairAction,
  RepairOptions,
  RepairReport,
  StoreCounts,
  VerifyOptions,
  VerifyReport,
} from "./doctor/findings.ts";
