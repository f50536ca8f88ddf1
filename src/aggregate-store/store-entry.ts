import type { AnyAggregate } from "../aggregate/aggregate.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStorage } from "../event-store/event-storage.ts";
import type { AnyProjection } from "../projection/projection.ts";
import type { AggregateStore as OpenStore } from "./aggregate-store.ts";
import { AggregateStoreBuilder } from "./aggregate-store-builder.ts";
import { DirectoryStorage } from "./directory-storage.ts";

/** An open store. `A` are its aggregates, `P` its projections. */
export type AggregateStore<A extends AnyAggregate = AnyAggregate, P extends AnyProjection = AnyProjection> = OpenStore<
  A,
  P
>;

interface AggregateStoreEntry {
  /**
   * Opens a store with the defaults, in a directory, which is made if it is missing, or in a storage, e.g. `memory()`. Throws
   * `INVALID_ARGUMENT` for anything else.
   */
  open(storage: string | EventStorage): Promise<AggregateStore>;
  /** Begins to configure a store, in a directory or in a storage. Throws `INVALID_ARGUMENT` for anything else. */
  builder(storage: string | EventStorage): AggregateStoreBuilder;
}

/** Opens aggregate stores. */
export const AggregateStore: AggregateStoreEntry = {
  open: async (storage) => AggregateStore.builder(storage).open() as Promise<AggregateStore>,
  builder: (storage) => new AggregateStoreBuilder(storageOf(storage)),
};

function storageOf(storage: unknown): EventStorage {
  if (isUrl(storage))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `a store expected the path of a directory or a storage, e.g. memory(), found the URL ${String(storage)}; for a directory, pass fileURLToPath(url)`,
    );
  if (typeof storage === "string" && storage !== "") return new DirectoryStorage(storage);
  if (isStorage(storage)) return storage;
  const found = typeof storage === "object" && storage !== null ? "an object without open(options)" : shown(storage);
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `a store expected the path of a directory or a storage, e.g. memory(), found ${found}`,
  );
}

/** As a path, the text of a URL would be a new directory in the working directory. */
function isUrl(value: unknown): boolean {
  if (typeof value === "string") return /^(file:|[a-z][a-z\d+.-]+:\/\/)/i.test(value);
  return typeof value === "object" && value !== null && "href" in value && "protocol" in value;
}

function isStorage(value: unknown): value is EventStorage {
  return typeof value === "object" && value !== null && "open" in value && typeof value.open === "function";
}

function shown(value: unknown): string {
  if (typeof value === "function") return "a function; call it";
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
