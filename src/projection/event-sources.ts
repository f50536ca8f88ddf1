import type { AnyContract } from "../aggregate/aggregate.ts";
import { initialOf } from "../aggregate/initial-state.ts";
import { EventReader } from "../aggregate/event-reader.ts";
import type { EventTypes } from "../event-store/event-store.ts";
import { codeFingerprint, type CodeVersion, type NamedFunction } from "../fingerprint.ts";

interface Definition<Handler> {
  readonly version?: CodeVersion | undefined;
  readonly initial: unknown;
  readonly sources: readonly {
    readonly aggregate: AnyContract;
    readonly handlers: Readonly<Record<string, Handler | undefined>>;
  }[];
}

interface Source<Handler> {
  readonly reader: EventReader;
  readonly handlers: ReadonlyMap<string, Handler>;
}

/** What a projection or a process manager listens to: its handlers, by type of aggregate and of event. */
export class EventSources<Handler> {
  readonly #byType: ReadonlyMap<string, Source<Handler>>;
  /** The types with which the events are stored that the handlers see, perhaps under other names. */
  readonly wanted: EventTypes;
  /** Tells which code it is: that of the handlers and steps or its version, and the initial state. */
  readonly fingerprint: string;

  constructor(definition: Definition<Handler>) {
    this.#byType = new Map(
      definition.sources.map(({ aggregate, handlers }) => {
        const named = Object.entries(handlers).filter(
          (entry): entry is [string, Handler & {}] => entry[1] !== undefined,
        );
        return [aggregate.type, { reader: new EventReader(aggregate), handlers: new Map<string, Handler>(named) }];
      }),
    );
    this.wanted = new Map(
      [...this.#byType].map(([type, { reader, handlers }]) => [type, reader.storedTypesOf(new Set(handlers.keys()))]),
    );
    const functions = [...this.#byType].flatMap(([type, { reader, handlers }]) => [
      ...[...handlers].map(([event, handler]): NamedFunction => [`${type}.${event}`, handler]),
      ...reader.functions,
    ]);
    this.fingerprint = codeFingerprint(definition.version, initialOf(definition.initial), functions);
  }

  of(aggregate: string): Source<Handler> | undefined {
    return this.#byType.get(aggregate);
  }
}
