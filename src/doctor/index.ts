export { repair } from "./repair.ts";
export { restoreArchives, type RestoreArchivesOptions, type RestoreArchivesReport } from "./restore-archives.ts";
export { verify } from "./verify.ts";
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
} from "./findings.ts";
