import { EventfoldError } from "../errors.ts";
import { type CompactionData, type CutData, cutOfType } from "../cut.ts";
import { eventDigest } from "../event-store/event-digest.ts";
import type { CommitResult, EventDraft, EventStore, StoredEvent, StreamName } from "../event-store/event-store.ts";
import { isCount } from "../json.ts";
import { fullNameOf } from "../stream-names.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { CommitWindow } from "./commit-window.ts";
import { firstEvent, type TransferProgress } from "./export-store.ts";
import { KnownNotes } from "./known-notes.ts";
import { Renumbering } from "./renumbering.ts";
import {
  draftOfLine,
  DROPPED_TYPE,
  type EventLine,
  invalid,
  type NoteLine,
  parseTransferLine,
  type SubscriptionLine,
  timestampOf,
  type TransferLine,
} from "./transfer-line.ts";

export interface ImportOptions {
  /** Ends the import with the signal's reason. Import the same lines again to go on. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

export interface ImportReport {
  /** Events that were written now. */
  readonly events: number;
  /** Events that the store had already. */
  readonly skipped: number;
  /** Whether events got other positions than they had, because the store has events of its own. */
  readonly renumbered: boolean;
  /** Position of the store's last event. */
  readonly position: number;
}

/** Imports the lines of an export. `changed` is called for each stream that gets events. */
export async function importStore(
  store: EventStore,
  lines: AsyncIterable<string> | Iterable<string>,
  options: ImportOptions,
  changed: (stream: StreamName) => void,
): Promise<ImportReport> {
  return new Import(store, options, changed).run(lines);
}

/**
 * One import. If the store begins with the same event, or is empty, what it has already is skipped, and the rest keeps its positions.
 * Otherwise, and from the first difference on, events are appended with new positions, unless their stream has their ids. Notes and
 * subscriptions speak of positions, so they are only imported in the first way.
 */
class Import {
  readonly #store: EventStore;
  readonly #options: ImportOptions;
  readonly #window: CommitWindow;
  readonly #notes: KnownNotes;
  readonly #renumbering: Renumbering;
  #expected: AsyncIterator<StoredEvent> | undefined;
  /** How many events the store had before. */
  #before = 0;
  /** Lines of events so far, with those that were skipped. */
  #events = 0;
  #skipped = 0;
  #notesSeen = 0;
  #isRenumbered = false;
  #head = 0;
  #position = 0;
  /** Of the last line of an event. */
  #lastPosition = 0;
  /** A compaction whose events have not all come yet: they are one commit. */
  #compaction: OpenCompaction | undefined;

  constructor(store: EventStore, options: ImportOptions, changed: (stream: StreamName) => void) {
    this.#store = store;
    this.#options = options;
    this.#window = new CommitWindow(store, changed);
    this.#notes = new KnownNotes(store);
    this.#renumbering = new Renumbering(store, () => this.#window.flush());
  }

  async run(lines: AsyncIterable<string> | Iterable<string>): Promise<ImportReport> {
    await refreshBeforeReading(this.#store);
    this.#before = this.#position = await this.#store.head();
    this.#expected = eventsOf(this.#store, this.#before);
    let number = 0;
    let isEnded = false;
    try {
      for await (const line of lines) {
        this.#options.signal?.throwIfAborted();
        number++;
        const text = line.trim();
        if (text === "") continue;
        if (isEnded) throw invalid(number, "it comes after the last line of the export");
        const parsed = parseTransferLine(text, number);
        if (number === 1 ? parsed.kind !== "header" : parsed.kind === "header")
          throw invalid(number, "an export has its header in its first line, and nowhere else");
        isEnded = parsed.kind === "end";
        await this.#add(parsed, number);
      }
      await this.#window.flush();
    } catch (error) {
      // The caller learns of the error when nothing is in flight any more.
      await this.#window.settle();
      throw error;
    } finally {
      await this.#expected.return?.();
    }
    if (!isEnded)
      throw new EventfoldError(
        "IMPORT_INVALID",
        `the import ends after line ${number}, before its last line: it was cut off. The lines that it has were imported; import all of it to go on`,
      );
    this.#report();
    await refreshBeforeReading(this.#store);
    const position = await this.#store.head();
    const events = this.#events - this.#skipped;
    return { events, skipped: this.#skipped, renumbered: this.#isRenumbered, position };
  }

  async #add(parsed: TransferLine, number: number): Promise<void> {
    if (this.#compaction !== undefined && parsed.kind !== "event")
      throw invalid(number, "the events of a compaction must follow it");
    switch (parsed.kind) {
      case "header":
        this.#head = parsed.line.head;
        this.#isRenumbered = this.#before > 0 && differs(await firstEvent(this.#store), parsed.line.first);
        return;
      case "note":
        this.#notesSeen++;
        return this.#addNote(parsed.line);
      case "event":
        return this.#addEvent(parsed.line, number);
      case "subscription":
        await this.#window.flush();
        return this.#addSubscription(parsed.line);
      case "end":
        if (parsed.line.events !== this.#events || parsed.line.notes !== this.#notesSeen)
          throw invalid(
            number,
            `expected ${parsed.line.events} events and ${parsed.line.notes} notes before it, found ${this.#events} and ${this.#notesSeen}: lines are missing`,
          );
    }
  }

  async #addNote({ manager: name, sequence, note, deadLetters }: NoteLine): Promise<void> {
    if (this.#isRenumbered || (await this.#notes.has(name, sequence, note))) return;
    const consumer = { name, expectedSequence: sequence - 1, note };
    await this.#window.add({
      commit: { appends: [], consumer: deadLetters === undefined ? consumer : { ...consumer, deadLetters } },
      bytes: 200,
      check: (result) => checkCommitted(result),
    });
  }

  async #addEvent(line: EventLine, number: number): Promise<void> {
    if (line.pos !== this.#lastPosition + 1)
      throw invalid(
        number,
        `expected position ${this.#lastPosition + 1}, found ${line.pos}: lines are missing or repeated`,
      );
    this.#lastPosition = line.pos;
    this.#events++;
    if (!this.#isRenumbered && line.pos <= this.#before && (await this.#isExpected(line))) {
      this.#skipped++;
      return this.#reportSometimes();
    }
    if (!this.#isRenumbered && line.pos <= this.#before) this.#beginRenumbering(line);
    if (this.#isRenumbered && (line.type === DROPPED_TYPE || (await this.#isForeignCompaction(line)))) this.#skipped++;
    else if (this.#isRenumbered) {
      const version = await this.#renumbering.versionFor(line);
      if (version === undefined) this.#skipped++;
      else await this.#commitEvent(line, version, number);
    } else await this.#commitEvent(line, line.version - 1, number);
    this.#reportSometimes();
  }

  /** A compaction of a stream that has events here: it does not replace them. Its events are appended. */
  async #isForeignCompaction({ type, aggregate, instance }: EventLine): Promise<boolean> {
    return cutOfType(type) === "compacted" && !(await this.#renumbering.isEmpty({ type: aggregate, id: instance }));
  }

  /** Whether the store's next event is this one. */
  async #isExpected(line: EventLine): Promise<boolean> {
    const next = await this.#expected?.next();
    if (next === undefined || next.done === true || next.value.position !== line.pos) return false;
    const stream = { type: line.aggregate, id: line.instance };
    const { version, type, id: eventId } = line;
    const found = next.value;
    const isSamePlace = found.version === version && found.stream.type === stream.type && found.stream.id === stream.id;
    // An event that was dropped here or there has nothing but its place.
    if (isSamePlace && (type === DROPPED_TYPE || (await this.#store.isDropped(line.pos)))) return true;
    return eventDigest(found) === eventDigest({ stream, version, type, eventId, timestamp: timestampOf(line) });
  }

  /** The store has another event in the place of this one. */
  #beginRenumbering({ pos }: EventLine): void {
    if (this.#notes.written > 0)
      throw new EventfoldError(
        "IMPORT_CONFLICT",
        `expected the event of the export at position ${pos}, found another one: both stores have gone on since they had the same events, and the notes of process managers cannot be joined. Import to an empty storage`,
      );
    this.#isRenumbered = true;
  }

  async #commitEvent(line: EventLine, expectedVersion: number, number: number): Promise<void> {
    const stream = { type: line.aggregate, id: line.instance };
    this.#store.checkName(stream);
    const event = draftOfLine(line);
    const position = ++this.#position;
    const cut = cutOfType(event.type);
    if (this.#compaction !== undefined || cut === "compacted")
      return this.#compact(line, event, expectedVersion, position, number);
    const check = (result: CommitResult, events: number): void => {
      checkCommitted(result);
      // The events of one commit follow each other.
      if (!this.#isRenumbered && result.ok && result.position !== position + events - 1) throw disturbed();
    };
    if (cut === undefined) return this.#window.addEvent(stream, expectedVersion, event, check);
    const data = JSON.stringify({ ...(line.data as CutData), version: expectedVersion + 1 });
    return this.#window.addCut({ stream, expectedVersion, events: [{ ...event, data }], cut }, check);
  }

  /** Adds an event to a compaction, and commits that when it has all of its events. */
  async #compact(
    line: EventLine,
    event: EventDraft,
    expectedVersion: number,
    position: number,
    number: number,
  ): Promise<void> {
    const stream = { type: line.aggregate, id: line.instance };
    let open = this.#compaction;
    if (open === undefined) {
      const found = line.data as Partial<CompactionData> | null;
      if (!isCount(found?.events)) throw invalid(number, "a compaction says how many events follow it");
      const data = JSON.stringify({ ...found, version: expectedVersion + 1 });
      open = { stream, expectedVersion, events: [{ ...event, data }], left: found.events };
    } else {
      const next = open.expectedVersion + open.events.length;
      if (
        fullNameOf(open.stream) !== fullNameOf(stream) ||
        next !== expectedVersion ||
        cutOfType(line.type) !== undefined
      )
        throw invalid(number, "the events of a compaction must follow it");
      open.events.push(event);
      open.left--;
    }
    this.#compaction = open.left > 0 ? open : undefined;
    if (open.left > 0) return undefined;
    const check = (result: CommitResult): void => {
      checkCommitted(result);
      if (!this.#isRenumbered && result.ok && result.position !== position) throw disturbed();
    };
    return this.#window.addCut({ ...open, cut: "compacted" }, check);
  }

  async #addSubscription({ subscription, position, horizon, last }: SubscriptionLine): Promise<void> {
    if (this.#isRenumbered) return;
    const known = await this.#store.loadCheckpoint("subscription", subscription);
    if (known !== undefined && known.position >= position) return;
    const mark = { ...(horizon === undefined ? {} : { horizon }), ...(last === undefined ? {} : { last }) };
    await this.#store.saveCheckpoint("subscription", subscription, { state: null, position, ...mark });
  }

  #reportSometimes(): void {
    if (this.#events % 1000 === 0) this.#report();
  }

  #report(): void {
    this.#options.onProgress?.({ events: this.#events, head: this.#head });
  }
}

interface OpenCompaction {
  readonly stream: StreamName;
  readonly expectedVersion: number;
  readonly events: EventDraft[];
  /** How many events are still to come. */
  left: number;
}

/** Whether two stores certainly begin with different events. */
function differs(here: string | undefined, there: string | undefined): boolean {
  return here !== undefined && there !== undefined && here !== there;
}

function checkCommitted(result: CommitResult): void {
  if (!result.ok) throw disturbed();
}

function disturbed(): EventfoldError {
  return new EventfoldError(
    "IMPORT_CONFLICT",
    "expected a store that nothing else writes to during an import, found other commits; stop the programs that use it, and import again",
  );
}

async function* eventsOf(store: EventStore, to: number): AsyncGenerator<StoredEvent, void, undefined> {
  if (to === 0) return;
  for await (const batch of store.readAll({ to, dropped: true })) yield* batch;
}
