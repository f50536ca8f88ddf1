import { commitBatchSql } from "./commit-batch-sql.ts";
import { viewsSql } from "./views-sql.ts";

/**
 * What leads from each version of the schema to the next; the first entry makes version 1. A released entry is never edited: a
 * change is one more entry. `s` is the quoted schema.
 *
 * Columns that hold text of the application compare by code points (`collate "C"`), so that order and uniqueness do not depend on
 * the server's locale. JSON is `json`, never `jsonb`, which would reorder keys and refuse U+0000.
 */
export const MIGRATIONS: readonly ((s: string) => string)[] = [
  (s) => `
create table ${s}.events (
  position bigint primary key,
  aggregate text collate "C" not null,
  id text collate "C" not null,
  version bigint not null,
  type text collate "C" not null,
  data json not null,
  schema_version integer not null,
  timestamp bigint not null,
  event_id text collate "C",
  actor text collate "C",
  meta json,
  batch uuid not null,
  cut text,
  dropped_at bigint,
  compacted_at bigint,
  unique (aggregate, id, version)
);
create index events_first on ${s}.events (aggregate, id, version) where version = 1 or cut is not null;
create table ${s}.notes (
  consumer text collate "C" not null,
  sequence bigint not null,
  note json not null,
  batch uuid not null,
  primary key (consumer, sequence)
);
create table ${s}.letters (
  ordinal bigint generated always as identity primary key,
  consumer text collate "C" not null,
  key text collate "C" not null,
  letter json not null
);
create index letters_key on ${s}.letters using hash (key);
create table ${s}.snapshots (
  aggregate text collate "C" not null,
  id text collate "C" not null,
  version bigint not null,
  position bigint not null,
  fingerprint text not null,
  state json not null,
  primary key (aggregate, id)
);
create table ${s}.checkpoints (
  kind text collate "C" not null,
  name text collate "C" not null,
  checkpoint json not null,
  primary key (kind, name)
);
create table ${s}.keys (
  subject text collate "C" primary key,
  id text collate "C" not null,
  key text not null
);
${commitBatchSql(s)}
${viewsSql(s)}`,
];
