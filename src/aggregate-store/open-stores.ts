import { EventfoldError } from "../errors.ts";
import type { AnyProcessManager } from "../process-manager/process-manager.ts";

/** A store of this process that is open and runs code by itself. */
interface OpenStore {
  /** See `EventStore.location`. */
  readonly location: string;
  /** The process managers that run by themselves, by name. */
  readonly managers: ReadonlyMap<string, object>;
  /** The names of the subscriptions that are under way. */
  readonly subscriptions: Set<string>;
}

/** One list for all copies of this package: a hot reload may evaluate the package again, too. */
const LIST = Symbol.for("eventfold-es:open-stores");

function openStores(): Set<OpenStore> {
  const holder = globalThis as { [LIST]?: Set<OpenStore> };
  return (holder[LIST] ??= new Set());
}

/** What a store of this process has to know of the others that are open on the same events. */
export class OpenStoreEntry {
  readonly #store: OpenStore;
  /** What the list has; nothing for a store in a place of its own. */
  readonly #isListed: boolean;

  /** Warns if another store runs a process manager of the same name and other code: both of them would react to the events. */
  constructor(location: string | undefined, managers: readonly AnyProcessManager[]) {
    this.#isListed = location !== undefined;
    this.#store = {
      location: location ?? "",
      managers: new Map(managers.map((manager) => [manager.name, manager])),
      subscriptions: new Set(),
    };
    if (!this.#isListed) return;
    for (const [name, manager] of this.#store.managers)
      if (this.#others.some((other) => other.managers.has(name) && other.managers.get(name) !== manager))
        warn(
          `this process has another open store on ${location}, which runs other code under the name of the process manager ${name}: ` +
            `each of them may react to an event. ${REMEDY}`,
        );
    openStores().add(this.#store);
  }

  get names(): Set<string> {
    return this.#store.subscriptions;
  }

  /** Throws `INVALID_ARGUMENT` if another store of this process runs a subscription of this name: each would get all events. */
  checkName(name: string): void {
    if (!this.#others.some(({ subscriptions }) => subscriptions.has(name))) return;
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected one subscription ${JSON.stringify(name)} at a time, found one in another store that this process has open on ${this.#store.location}. ${REMEDY}`,
    );
  }

  close(): void {
    openStores().delete(this.#store);
  }

  get #others(): readonly OpenStore[] {
    const { location } = this.#store;
    return this.#isListed
      ? [...openStores()].filter((other) => other !== this.#store && other.location === location)
      : [];
  }
}

const REMEDY = "After a hot reload, close the store that the old code has opened; docs/guides/hot-reload.md says how";

function warn(message: string): void {
  const { process } = globalThis as { readonly process?: { emitWarning?(message: string, type: string): void } };
  if (process?.emitWarning === undefined) console.warn(message);
  else process.emitWarning(message, "EventfoldWarning");
}
