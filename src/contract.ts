/** What a contract needs and nothing of stores, so that a user interface can import it alone. */
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
export { dropped, renamed, replaced } from "./aggregate/history.ts";
export type { Dropped, PastEvent, Renamed, Replaced } from "./aggregate/history.ts";
export type {
  PayloadPart,
  PayloadPath,
  PersonalFields,
  PersonalPlaceholders,
  PersonalSubject,
} from "./aggregate/personal-fields.ts";
export { data } from "./aggregate/payload.ts";
export type {
  DataOf,
  InputOf,
  NotJson,
  Payload,
  Payloads,
  PayloadShape,
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
