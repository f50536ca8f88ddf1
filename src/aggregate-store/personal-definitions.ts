import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { PastEvent, Replaced } from "../aggregate/history.ts";
import { type Payloads, shapesOf } from "../aggregate/payload.ts";
import type { RememberedOutcome } from "../aggregate/instance/remembered-outcomes.ts";
import { type PersonalFields, takePersonal } from "../aggregate/personal-fields.ts";
import { shownIssues, validated } from "../aggregate/validate.ts";
import { EventfoldError } from "../errors.ts";
import type { ConsumerKind } from "../event-store/event-store.ts";
import type { PersonalEvent, PersonalModel } from "../personal/personal-model.ts";
import { processManagerDefinition } from "../process-manager/process-manager.ts";
import { definitionOf } from "../projection/projection.ts";
import { instanceOf, isOutcomesType } from "../stream-names.ts";
import type { Wiring } from "./wiring.ts";

/** The personal fields of an aggregate. */
interface PersonalAggregate {
  /** Of each type of event, by the number of steps that its payload has been through. */
  readonly events: ReadonlyMap<string, readonly (PersonalEvent | undefined)[]>;
  readonly commands: ReadonlyMap<string, readonly PersonalFields[]>;
  /** For the outcomes that its instances remember. */
  readonly outcome: PersonalEvent | undefined;
  readonly isPersonal: boolean;
}

/** What the definitions of a store declare as personal. */
export class PersonalDefinitions implements PersonalModel {
  readonly #aggregates = new Map<string, PersonalAggregate>();
  readonly #sources = new Map<string, readonly string[]>();
  /** Whether the store encrypts. Decided when it is opened. */
  isEncrypting = false;

  constructor({ aggregates, projections, managers }: Wiring) {
    for (const aggregate of aggregates) this.#aggregates.set(aggregate.type, personalAggregate(aggregate));
    const typesOf = ({ sources }: { readonly sources: readonly { readonly aggregate: { readonly type: string } }[] }) =>
      sources.map(({ aggregate }) => aggregate.type);
    for (const projection of projections)
      this.#sources.set(`projection/${projection.name}`, typesOf(definitionOf(projection)));
    for (const manager of managers)
      this.#sources.set(`process-manager/${manager.name}`, typesOf(processManagerDefinition(manager)));
  }

  get isPersonal(): boolean {
    return [...this.#aggregates.values()].some(({ isPersonal }) => isPersonal);
  }

  /** An aggregate is registered after the store was opened. Throws `INVALID_DEFINITION` if the store does not encrypt and would have to. */
  declare(aggregate: AnyAggregate): void {
    if (this.#aggregates.has(aggregate.type)) return;
    const personal = personalAggregate(aggregate);
    if (personal.isPersonal && !this.isEncrypting)
      throw new EventfoldError(
        "INVALID_DEFINITION",
        `aggregate ${aggregate.type} has personal fields; expected it to be registered before the store is opened, by builder(…).aggregate(…), found it registered later`,
      );
    this.#aggregates.set(aggregate.type, personal);
  }

  ofEvent(aggregate: string, type: string, schemaVersion: number): PersonalEvent | undefined {
    if (!isOutcomesType(aggregate)) return this.#aggregates.get(aggregate)?.events.get(type)?.[schemaVersion];
    return this.#aggregates.get(instanceOf({ type: aggregate, id: "" }).type)?.outcome;
  }

  ofCommand(aggregate: string, type: string): readonly PersonalFields[] | undefined {
    return this.#aggregates.get(aggregate)?.commands.get(type);
  }

  declares(aggregate: string): boolean {
    return this.#aggregates.get(aggregate)?.isPersonal === true;
  }

  sourcesOf(kind: ConsumerKind, name: string): readonly string[] | undefined {
    return this.#sources.get(`${kind}/${name}`);
  }
}

function personalAggregate({ contract }: AnyAggregate): PersonalAggregate {
  const {
    events,
    commands,
    rejections = {},
    history = [],
  } = contract as {
    readonly events: Payloads;
    readonly commands: Payloads;
    readonly rejections?: Payloads;
    readonly history?: readonly PastEvent[];
  };
  const replaced = history.filter((entry): entry is Replaced => entry.kind === "replaced");
  const declared = new Map(
    [...Object.entries(events), ...replaced.map(({ from, payload }) => [from, payload] as const)]
      .map(([type, payload]) => [type, shapesOf(payload).map(personalEvent)] as const)
      .filter(([, shapes]) => shapes.some((shape) => shape !== undefined)),
  );
  const [ofCommands, ofRejections] = [newestOf(commands), newestOf(rejections)];
  return {
    events: declared,
    commands: ofCommands,
    outcome: ofRejections.size === 0 ? undefined : personalOutcome(ofRejections),
    isPersonal: declared.size + ofCommands.size + ofRejections.size > 0,
  };
}

/** The personal fields of the newest shapes. */
function newestOf(payloads: Payloads): ReadonlyMap<string, readonly PersonalFields[]> {
  return new Map(
    Object.entries(payloads).flatMap(([type, payload]) => {
      const personal = shapesOf(payload).at(-1)?.personal;
      return personal === undefined ? [] : [[type, personal] as const];
    }),
  );
}

/** An outcome has a rejection as a part of its payload. */
function personalOutcome(rejections: ReadonlyMap<string, readonly PersonalFields[]>): PersonalEvent {
  return {
    take(data, id, what) {
      const { rejection } = data as Pick<RememberedOutcome, "rejection">;
      const fields = rejection && rejections.get(rejection.type);
      if (fields === undefined) return [];
      return takePersonal(fields, rejection?.data, id, what).map(({ subject, values }) => ({
        subject,
        values: values.map(([place, value]) => [["rejection", "data", ...place], value] as const),
      }));
    },
    problemOf: () => undefined,
  };
}

function personalEvent({ personal, schema }: ReturnType<typeof shapesOf>[number]): PersonalEvent | undefined {
  if (personal === undefined) return undefined;
  return {
    take: (data, id, what) => takePersonal(personal, data, id, what),
    problemOf: (data) => {
      const result = schema === undefined ? undefined : validated(schema, data, "the payload with placeholders");
      return result?.issues === undefined ? undefined : shownIssues(result.issues);
    },
  };
}
