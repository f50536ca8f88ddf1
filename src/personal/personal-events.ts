import { type PersonalPart, type PersonalValue, putPersonal } from "../aggregate/personal-fields.ts";
import { EventfoldError } from "../errors.ts";
import type { EventDraft, StoredEvent, StoredMeta, StreamName } from "../event-store/event-store.ts";
import { copyOf } from "../json.ts";
import { type Box, isBox, open, seal } from "./boxes.ts";
import type { KeyRing } from "./key-ring.ts";
import type { PersonalEvent } from "./personal-model.ts";

/** The key of an event's metadata with its encrypted parts, one box for each person. */
const PERSONAL = "personal";

/** An event whose personal parts were taken out and not encrypted yet. */
export interface TakenEvent {
  readonly draft: EventDraft;
  readonly parts: readonly PersonalPart[];
}

/** Takes the personal parts out of a new event. Throws for an event that cannot be kept so. */
export function takeParts(declared: PersonalEvent, stream: StreamName, draft: EventDraft): TakenEvent {
  const what = `event ${draft.type} of ${stream.type}`;
  const data = JSON.parse(draft.data) as unknown;
  const parts = declared.take(data, stream.id, what);
  if (parts.length === 0) return { draft, parts };
  const problem = declared.problemOf(data ?? undefined);
  if (problem !== undefined)
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${what}: expected placeholders that fit the schema, because readers get them once a person is forgotten; found that the schema refuses them: ${problem}. Choose other placeholders, or let the schema accept these`,
    );
  return { draft: { ...draft, data: JSON.stringify(data) }, parts };
}

/** Encrypts the parts of an event. The keys of its persons must have been obtained. */
export function sealParts(ring: KeyRing, stream: StreamName, { draft, parts }: TakenEvent): EventDraft {
  if (parts.length === 0) return draft;
  const place = placeOf(stream, draft);
  const boxes = parts.map(({ subject, values }) => {
    const key = ring.ofSubject(subject);
    if (key === undefined) throw new Error("expected the key of each person to be obtained");
    return seal(ring, [key.id], place, JSON.stringify(values));
  });
  return { ...draft, meta: { ...draft.meta, [PERSONAL]: boxes } };
}

/** What a box belongs to. An export and its import keep all of it. */
function placeOf({ type, id }: StreamName, event: Pick<EventDraft, "eventId" | "type">): string[] {
  return ["event", type, id, event.eventId ?? "", event.type];
}

/** The boxes of an event; `undefined` for an event without personal parts. */
export function boxesOf(meta: StoredMeta | undefined): readonly Box[] | undefined {
  const boxes = meta?.[PERSONAL];
  return Array.isArray(boxes) && boxes.length > 0 && boxes.every(isBox) ? boxes : undefined;
}

/** An event with personal parts, as readers see it: with those whose keys exist, and the placeholders of the others. */
export class PersonalStoredEvent implements StoredEvent {
  readonly #event: StoredEvent;
  readonly #boxes: readonly Box[];
  readonly #ring: KeyRing;
  #data: unknown;
  /** The era in which `#data` was made. */
  #era = -1;

  /** The keys of the boxes must have been loaded. */
  constructor(event: StoredEvent, boxes: readonly Box[], ring: KeyRing) {
    this.#event = event;
    this.#boxes = boxes;
    this.#ring = ring;
  }

  get data(): unknown {
    // A reader may have got the event before the person was forgotten.
    if (this.#era !== this.#ring.era) {
      this.#data = this.#opened();
      this.#era = this.#ring.era;
    }
    return this.#data;
  }

  #opened(): unknown {
    const data = copyOf(this.#event.data);
    const place = placeOf(this.#event.stream, this.#event);
    for (const box of this.#boxes) {
      const opened = open(this.#ring, box, place);
      if (opened === "lost") continue;
      if (opened === "damaged") throw damaged(this.#event);
      putPersonal(data, opened.value as readonly PersonalValue[]);
    }
    return data;
  }

  get stream(): StreamName {
    return this.#event.stream;
  }

  get type(): string {
    return this.#event.type;
  }

  get schemaVersion(): number {
    return this.#event.schemaVersion;
  }

  get version(): number {
    return this.#event.version;
  }

  get position(): number {
    return this.#event.position;
  }

  get timestamp(): number {
    return this.#event.timestamp;
  }

  get eventId(): string | undefined {
    return this.#event.eventId;
  }

  get actor(): string | undefined {
    return this.#event.actor;
  }

  get meta(): StoredMeta | undefined {
    return this.#event.meta;
  }
}

function damaged({ stream, version, position, type }: StoredEvent): EventfoldError {
  return new EventfoldError(
    "PERSONAL_DATA_DAMAGED",
    `${stream.type} ${JSON.stringify(stream.id)}, version ${version}, position ${position}: expected the personal fields of ${type} as they were encrypted, found that they were changed or come from another event; restore the event from a backup, or forget the person`,
  );
}
