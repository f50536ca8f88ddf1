export { auditStore, type AuditFinding } from "./audit-store.ts";
export { compareLocks, type LockDifference, type LockDifferenceKind } from "./compare-locks.ts";
export {
  describeEvents,
  type EventLock,
  type LockedAggregate,
  type LockedEvent,
  type LockedPast,
  type LockedShape,
  type LockOptions,
} from "./event-lock.ts";
export { checkEventLock, writeEventLock, type WriteLockOptions } from "./lock-file.ts";
