import { differing, type FoldDifference, type FoldSample, type FoldSamples } from "../aggregate/fold-samples.ts";
import { initialOf } from "../aggregate/initial-state.ts";
import type { EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { EventSources } from "../projection/event-sources.ts";
import type { HandlerName } from "./note.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import { NO_OUTPUTS, type Outputs, outputsOfEvent } from "./reaction.ts";

type React = (state: unknown, event: unknown) => unknown;

/** A process manager's initial state and its reactions. */
export class Reactions {
  readonly #definition: ProcessManagerDefinition;
  readonly #sources: EventSources<React>;
  /** By type of aggregate and stored type of event, as the notes name them. */
  readonly #names: ReadonlyMap<string, ReadonlyMap<string, HandlerName>>;

  constructor(definition: ProcessManagerDefinition) {
    this.#definition = definition;
    this.#sources = new EventSources<React>(definition);
    this.#names = new Map(
      [...this.wanted].map(([aggregate, types]) => [
        aggregate,
        new Map([...types].map((event) => [event, { aggregate, event }])),
      ]),
    );
  }

  get names(): readonly HandlerName[] {
    return [...this.#names.values()].flatMap((types) => [...types.values()]);
  }

  get wanted(): EventTypes {
    return this.#sources.wanted;
  }

  get fingerprint(): string {
    return this.#sources.fingerprint;
  }

  /** A fresh initial state. */
  get initial(): unknown {
    return initialOf(this.#definition.initial);
  }

  /** Whether there is a reaction to an event. */
  has({ stream, type }: StoredEvent): boolean {
    return this.#names.get(stream.type)?.has(type) === true;
  }

  /** The outputs for an event. A reaction may change the state, and its error passes through. Takes a sample if one is due. */
  outputs(state: unknown, event: StoredEvent, samples?: FoldSamples): Outputs {
    const source = this.#sources.of(event.stream.type);
    const kind = this.#names.get(event.stream.type)?.get(event.type);
    if (source === undefined || kind === undefined) return { ...NO_OUTPUTS, state };
    const { name } = this.#definition;
    const counter = samples?.counterOf(kind, event);
    if (samples === undefined || counter === undefined || ++counter.count !== counter.next)
      return outputsOfEvent(name, source, event, state);
    const begun = samples.begin(counter, state, event);
    const outputs = outputsOfEvent(name, source, event, state);
    if (begun !== undefined) samples.complete(begun, outputs.state, (again) => this.outputs(this.initial, again).state);
    return outputs;
  }

  /** The first sample of which the reactions make another state. */
  differing(samples: readonly FoldSample[]): FoldDifference | undefined {
    return differing(
      samples,
      (before, event) => this.outputs(before === undefined ? this.initial : before.state, event).state,
    );
  }
}
