import type { StoredEvent, StoredMeta, StreamName } from "../../event-store/event-store.ts";
import type { Row } from "../connection/database.ts";
import { fromStored } from "../stored-text.ts";

/** The columns of an event, but for those that name its stream. */
export const EVENT_COLUMNS =
  "e.position, e.version, e.type, e.data, e.schema_version, e.timestamp, e.event_id, e.actor, e.meta";
const [POSITION, VERSION, TYPE, DATA, SCHEMA, TIMESTAMP, EVENT_ID, ACTOR, META] = [0, 1, 2, 3, 4, 5, 6, 7, 8] as const;
/** The columns after these. */
export const COLUMNS_AFTER = 9;

/** An event over the row that it was read from: a field is made when it is asked for, anew for each reader. */
export class StoredRow implements StoredEvent {
  readonly stream: StreamName;
  readonly version: number;
  readonly position: number;
  readonly #row: Row;

  constructor(stream: StreamName, row: Row) {
    this.stream = stream;
    this.version = Number(row[VERSION]);
    this.position = Number(row[POSITION]);
    this.#row = row;
  }

  get type(): string {
    return fromStored(this.#row[TYPE] ?? "");
  }

  get data(): unknown {
    return JSON.parse(this.#row[DATA] ?? "null") as unknown;
  }

  get schemaVersion(): number {
    return Number(this.#row[SCHEMA]);
  }

  get timestamp(): number {
    return Number(this.#row[TIMESTAMP]);
  }

  get eventId(): string | undefined {
    return textOf(this.#row[EVENT_ID]);
  }

  get actor(): string | undefined {
    return textOf(this.#row[ACTOR]);
  }

  get meta(): StoredMeta | undefined {
    const text = this.#row[META] ?? null;
    return text === null ? undefined : (JSON.parse(text) as StoredMeta);
  }
}

/** About how many bytes a row is, for deciding how many to ask for. */
export function sizeOf(row: Row): number {
  return 100 + (row[DATA]?.length ?? 0) + (row[META]?.length ?? 0);
}

function textOf(value: string | null | undefined): string | undefined {
  return value === null || value === undefined ? undefined : fromStored(value);
}
