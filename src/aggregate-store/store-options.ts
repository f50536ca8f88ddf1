import type { UnknownEventPolicy } from "../aggregate/unknown-event-policy.ts";
import type { Middleware } from "./middleware.ts";
import { EventfoldError } from "../errors.ts";
import { isDate } from "../realm.ts";
import type { StorageOptions } from "../event-store/event-storage.ts";
import type { SubjectKeys } from "../event-store/subject-keys.ts";
import { isWellFormed } from "../json.ts";

/** What the builder of a store collects, besides the definitions. */
export interface StoreOptions {
  /** In milliseconds. */
  readonly idleTimeout: number;
  /** Nothing is written, and process managers do not run. */
  readonly readOnly: boolean;
  readonly durability: StorageOptions["durability"];
  readonly foreignEvents: NonNullable<StorageOptions["foreignEvents"]>;
  /** In milliseconds. */
  readonly lockTimeout: number;
  /** Where the keys of personal fields are kept, if not in the storage. */
  readonly keys: SubjectKeys | undefined;
  readonly onUnknownEvent: UnknownEventPolicy;
  readonly middleware: readonly Middleware[];
  readonly clock: () => number | Date;
  readonly ids: () => string;
  readonly processManagerMode: "automatic" | "manual";
  readonly onProcessManagerError: (error: unknown) => void;
}

export const DEFAULT_OPTIONS: StoreOptions = {
  idleTimeout: 5 * 60_000,
  readOnly: false,
  durability: "flush",
  foreignEvents: "auto",
  lockTimeout: 30_000,
  keys: undefined,
  onUnknownEvent: "error",
  middleware: [],
  // Read at each call: a test may replace `Date` while the store is open.
  clock: () => Date.now(),
  ids: randomId,
  processManagerMode: "automatic",
  onProcessManagerError: (error) => {
    // Without a listener an error must not pass unnoticed, and must not end the program either.
    console.error(error);
  },
};

/** The clock and the ids of a store, checked at each call. */
export function sourcesOf({ clock, ids }: StoreOptions): Pick<StorageOptions, "now" | "nextId"> {
  return { now: () => checkedTime(clock()), nextId: () => checkedId(ids()) };
}

interface RandomSource {
  randomUUID?: () => string;
  getRandomValues: (bytes: Uint8Array) => Uint8Array;
}

/** A UUID of version 4. Browsers have `randomUUID` on secure pages only. */
function randomId(): string {
  const { crypto } = globalThis as unknown as { readonly crypto: RandomSource };
  return crypto.randomUUID?.() ?? uuidOf(crypto.getRandomValues(new Uint8Array(16)));
}

function uuidOf(bytes: Uint8Array): string {
  const [version = 0, variant = 0] = [bytes[6], bytes[8]];
  bytes[6] = (version & 0x0f) | 0x40;
  bytes[8] = (variant & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function checkedId(id: unknown): string {
  if (typeof id !== "string" || id === "" || !isWellFormed(id)) {
    throw new EventfoldError("INVALID_ARGUMENT", `ids() gave ${JSON.stringify(id)}; it gives a new text each time`);
  }
  return id;
}

function checkedTime(time: number | Date): number {
  const value = Math.floor(typeof time === "number" ? time : isDate(time) ? time.getTime() : NaN);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `the clock gave ${String(time)}; it gives milliseconds since 1970, or a date, from 1970 on`,
    );
  }
  return value;
}
