import type { PersonalFields, PersonalPart } from "../aggregate/personal-fields.ts";
import type { ConsumerKind } from "../event-store/event-store.ts";

/** The personal fields of a type of events. */
export interface PersonalEvent {
  /** Takes the personal parts out of a payload, which must be the caller's own. */
  take(data: unknown, id: string, what: string): readonly PersonalPart[];
  /** The problem if readers would refuse a payload. */
  problemOf(data: unknown): string | undefined;
}

/** What the definitions of a store say about persons. */
export interface PersonalModel {
  /** Whether any definition declares personal fields. */
  readonly isPersonal: boolean;
  /** The personal fields of events of a type whose payload has been through so many upcasting steps. */
  ofEvent(aggregate: string, type: string, schemaVersion: number): PersonalEvent | undefined;
  /** The personal fields of commands of a type. */
  ofCommand(aggregate: string, type: string): readonly PersonalFields[] | undefined;
  /** Whether events of an aggregate may have personal fields, according to its contract. */
  declares(aggregate: string): boolean;
  /** The aggregates whose events go into the state of a consumer; `undefined` if it is not registered. */
  sourcesOf(kind: ConsumerKind, name: string): readonly string[] | undefined;
}
