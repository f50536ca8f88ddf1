import type { Checkpoint, ConsumerKind, Snapshot, StreamName } from "../event-store/event-store.ts";
import { isJsonValue } from "../json.ts";
import { type Database, statement, type Statement } from "./connection/database.ts";
import { toStored } from "./stored-text.ts";

/** Snapshots and checkpoints. A state that JSON would change is not kept; it is made again instead. */
export class Caches {
  readonly #database: Database;
  readonly #loadSnapshot: Statement;
  readonly #saveSnapshot: Statement;
  readonly #loadCheckpoint: Statement;
  readonly #listCheckpoints: Statement;
  readonly #saveCheckpoint: Statement;

  constructor(database: Database, s: string) {
    this.#database = database;
    this.#loadSnapshot = statement(
      `select state, version, position from ${s}.snapshots where aggregate = $1 and id = $2 and fingerprint = $3`,
    );
    this.#saveSnapshot = statement(
      `insert into ${s}.snapshots (aggregate, id, version, position, fingerprint, state)
      select $1, $2, $3::bigint, $4::bigint, $5, $6::json where not exists (
        select from ${s}.events e where e.aggregate = $1 and e.id = $2 and e.cut is not null and e.version > $3::bigint)
      on conflict (aggregate, id) do update
      set version = excluded.version, position = excluded.position, fingerprint = excluded.fingerprint, state = excluded.state`,
    );
    this.#loadCheckpoint = statement(`select checkpoint from ${s}.checkpoints where kind = $1 and name = $2`);
    this.#listCheckpoints = statement(`select name from ${s}.checkpoints where kind = $1 order by name`);
    this.#saveCheckpoint = statement(
      `insert into ${s}.checkpoints (kind, name, checkpoint) values ($1, $2, $3)
      on conflict (kind, name) do update set checkpoint = excluded.checkpoint`,
    );
  }

  async loadSnapshot({ type, id }: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    const [row] = await this.#database.read(this.#loadSnapshot, [type, toStored(id), fingerprint]);
    if (row === undefined) return undefined;
    const [state, version, position] = row;
    return {
      state: JSON.parse(state ?? "null") as unknown,
      version: Number(version),
      position: Number(position),
      fingerprint,
    };
  }

  async saveSnapshot(stream: StreamName, { state, version, position, fingerprint }: Snapshot): Promise<void> {
    if (!isJsonValue(state)) return;
    const values = [stream.type, toStored(stream.id), version, position, fingerprint, JSON.stringify(state)];
    try {
      await this.#database.read(this.#saveSnapshot, values, 0);
    } catch {
      // Only a cache: without it the next load reads more events.
    }
  }

  async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    const [row] = await this.#database.read(this.#loadCheckpoint, [kind, name]);
    return row === undefined ? undefined : (JSON.parse(row[0] ?? "null") as Checkpoint);
  }

  async listCheckpoints(kind: ConsumerKind): Promise<string[]> {
    const rows = await this.#database.read(this.#listCheckpoints, [kind]);
    return rows.map(([name]) => name ?? "");
  }

  /** Tries once: a checkpoint that is missing costs reading events again, and waiting for the server costs more. */
  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (!isJsonValue(checkpoint.state)) return;
    await this.#database.read(this.#saveCheckpoint, [kind, name, JSON.stringify(checkpoint)], 0);
  }
}
