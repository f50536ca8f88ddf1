import { type Connection, type Database, statement, type Statement } from "../connection/database.ts";
import { startTimer } from "../../real-timers.ts";

/** Commits that follow each other this closely are announced together, in ms. */
const COALESCE_MS = 5;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5000;
/** How long a notification of our own may take to come back before the channel counts as silent, in ms. */
const ECHO_MS = 2000;

export interface ChannelParts {
  readonly database: Database;
  /** The channel's name, quoted for SQL. */
  readonly channel: string;
  /** Tells this store's announcements from those of others. */
  readonly own: string;
  /** There may be commits of other processes. */
  readonly onNews: () => void;
}

/**
 * Tells other processes of commits and hears of theirs, over `LISTEN` and `NOTIFY`. Only a hint: notifications get lost when a
 * connection breaks, and never come through a pooler that shares connections for single transactions. So others look by
 * themselves too, and more often while `isHeard` is false. Announcements follow the commit in a transaction of their own, because
 * `NOTIFY` inside the commit's would take a lock over the whole server.
 */
export class Channel {
  readonly #parts: ChannelParts;
  readonly #notify: Statement;
  #listening: Connection | undefined;
  #isHeard = false;
  #isClosed = false;
  #cancelAnnouncing: (() => void) | undefined;
  #cancelReconnecting: (() => void) | undefined;
  #wait = FIRST_PAUSE_MS;

  constructor(parts: ChannelParts) {
    this.#parts = parts;
    this.#notify = statement("select pg_notify($1, $2)");
  }

  /** Whether notifications come through. */
  get isHeard(): boolean {
    return this.#isHeard;
  }

  /** Tells the others, soon. */
  announce(): void {
    if (this.#isClosed) return;
    const announce = (): void => {
      this.#cancelAnnouncing = undefined;
      this.#send(this.#parts.own);
    };
    this.#cancelAnnouncing ??= startTimer(announce, COALESCE_MS, "background");
  }

  /** Begins to listen; goes on by itself after the connection was lost. */
  listen(): void {
    void this.#connect().catch(() => this.#connectLater());
  }

  async #connect(): Promise<void> {
    const { database, channel, own, onNews } = this.#parts;
    if (this.#isClosed) return;
    const client = await database.connect(database.patience);
    const lost = (): void => {
      if (this.#listening === client) this.#connectLater();
    };
    client.raw.on("error", lost);
    client.raw.on("end", lost);
    client.raw.on("notification", ({ payload }) => {
      if (this.#listening !== client) return;
      this.#isHeard = true;
      this.#wait = FIRST_PAUSE_MS;
      if (payload !== own && payload !== `${own} echo`) onNews();
    });
    this.#listening = client;
    try {
      await database.run(client, { text: `listen ${channel}`, name: "" }, [], database.patience);
    } catch (error) {
      client.breakOff();
      throw error;
    }
    if (this.#isClosed) return client.breakOff();
    this.#send(`${own} echo`);
    // Announcements made before this connection listened.
    onNews();
  }

  #connectLater(): void {
    this.#listening?.breakOff();
    this.#listening = undefined;
    this.#isHeard = false;
    if (this.#isClosed) return;
    this.#cancelReconnecting?.();
    this.#cancelReconnecting = startTimer(() => this.listen(), this.#wait, "background");
    this.#wait = Math.min(2 * this.#wait, LONGEST_PAUSE_MS);
  }

  #send(payload: string): void {
    const { database, channel } = this.#parts;
    // One that is not sent is missed by no one for long.
    database.attempt(this.#notify, [channel.slice(1, -1), payload], ECHO_MS).catch(() => {});
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelAnnouncing?.();
    this.#cancelReconnecting?.();
    this.#listening?.breakOff();
    this.#listening = undefined;
  }
}
