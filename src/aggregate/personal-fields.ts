import { appendAll } from "../arrays.ts";
import { EventfoldError, InvalidPayloadError } from "../errors.ts";
import { copyOf, isJsonValue, isWellFormed } from "../json.ts";

type Primitive = string | number | boolean | null | undefined;
type Join<Prefix extends string, Key extends string> = Prefix extends "" ? Key : `${Prefix}.${Key}`;

/** The paths of a payload's parts: `name`, `address.street`, `contacts[].email`. Looks five levels deep. */
export type PayloadPath<T, Prefix extends string = "", Depth extends 0[] = []> = 0 extends 1 & T
  ? string
  : unknown extends T
    ? string
    : Depth["length"] extends 5
      ? never
      : T extends Primitive
        ? never
        : T extends readonly (infer Item)[]
          ? `${Prefix}[]` | PayloadPath<Item, `${Prefix}[]`, [...Depth, 0]>
          : T extends object
            ? {
                [K in keyof T & string]-?: Join<Prefix, K> | PayloadPath<T[K], Join<Prefix, K>, [...Depth, 0]>;
              }[keyof T & string]
            : never;

/** The value at a path of a payload. */
export type PayloadPart<T, Path extends string> = unknown extends T
  ? unknown
  : Path extends `${infer Head}.${infer Rest}`
    ? PayloadPart<PayloadStep<T, Head>, Rest>
    : PayloadStep<T, Path>;
type PayloadStep<T, Step extends string> = Step extends `${infer Before}[]`
  ? PayloadStep<T, Before> extends infer List
    ? List extends readonly (infer Item)[]
      ? Item
      : never
    : never
  : Step extends ""
    ? T
    : unknown extends T
      ? unknown
      : T extends Primitive
        ? never
        : Step extends keyof T
          ? Exclude<T[Step], undefined>
          : never;

/** Whom a payload is about: the path of a text in it, or a function of the payload and the instance's id. */
export type PersonalSubject<T> = PayloadPath<T> | ((data: T, id: string) => string | undefined);

/** The personal parts of a payload by their paths, each with what readers get in its place once the person is forgotten. */
export type PersonalPlaceholders<T> = { readonly [Path in PayloadPath<T>]?: PayloadPart<T, Path> };

/** A step into a value: a key, or every element of an array. */
type Step = string | typeof EACH;
const EACH: unique symbol = Symbol("each");

/** The declaration of one person's parts of a payload. */
export interface PersonalFields {
  readonly subject: string | ((data: never, id: string) => string | undefined);
  readonly fields: readonly { readonly path: string; readonly steps: readonly Step[]; readonly placeholder: unknown }[];
}

/** One part of a payload: where it is, and what it is. */
export type PersonalValue = readonly [place: readonly (string | number)[], value: unknown];

/** What a payload says of one person. */
export interface PersonalPart {
  readonly subject: string;
  readonly values: readonly PersonalValue[];
}

/** Checks a declaration of personal fields. `before` has those of the same payload. Throws `INVALID_DEFINITION`. */
export function personalFields(before: readonly PersonalFields[], subject: unknown, fields: unknown): PersonalFields {
  if (typeof subject !== "function" && (typeof subject !== "string" || subject === ""))
    throw invalid(
      `expected the subject as the path of a text in the payload, or as a function of payload and id, found ${typeof subject}`,
    );
  if (typeof subject === "string" && stepsOf(subject).includes(EACH))
    throw invalid(`expected the path of one subject, found ${JSON.stringify(subject)}, which names many`);
  if (typeof fields !== "object" || fields === null || Array.isArray(fields) || Object.keys(fields).length === 0)
    throw invalid("expected an object with the path of each personal field and its placeholder");
  const declared = Object.entries(fields).map(([path, placeholder]) => {
    if (placeholder === undefined || !isJsonValue(placeholder))
      throw invalid(`expected the placeholder of ${JSON.stringify(path)} to be JSON, found ${typeof placeholder}`);
    return { path, steps: stepsOf(path), placeholder: placeholder as unknown };
  });
  const all = [...before.flatMap((other) => other.fields), ...declared];
  for (const field of declared)
    for (const other of all)
      if (field !== other && (isWithin(field.steps, other.steps) || isWithin(other.steps, field.steps)))
        throw invalid(
          `${JSON.stringify(field.path)} and ${JSON.stringify(other.path)} have a part in common; declare one of them`,
        );
  return { subject: subject as PersonalFields["subject"], fields: declared };
}

function stepsOf(path: string): Step[] {
  const steps: Step[] = [];
  for (const [index, part] of path.split(".").entries()) {
    const [, name = "", each = ""] = /^(.*?)((?:\[\])*)$/s.exec(part) ?? [];
    if (name === "__proto__" || (name === "" && (index > 0 || each === "")))
      throw invalid(
        `${JSON.stringify(path)} is not a path; expected keys with dots between them, and [] for each element of an array`,
      );
    if (name !== "") steps.push(name);
    for (let at = 0; at < each.length; at += 2) steps.push(EACH);
  }
  return steps;
}

function isWithin(inner: readonly Step[], outer: readonly Step[]): boolean {
  return outer.length <= inner.length && outer.every((step, index) => step === inner[index]);
}

function invalid(message: string): EventfoldError {
  return new EventfoldError("INVALID_DEFINITION", `personal(subject, fields): ${message}`);
}

/**
 * Takes the personal parts out of a payload, which must be the caller's own, and puts their placeholders in their places. Gives the parts of
 * each person. Throws `INVALID_PAYLOAD` if there are parts of a person whom the payload does not name.
 */
export function takePersonal(
  declarations: readonly PersonalFields[],
  data: unknown,
  id: string,
  what: string,
): PersonalPart[] {
  const subjects = declarations.map(({ subject }) => subjectOf(subject, data, id));
  const parts = new Map<string, PersonalValue[]>();
  for (const [index, { fields }] of declarations.entries()) {
    const values: PersonalValue[] = [];
    for (const { steps, placeholder } of fields) take(data, steps, [], placeholder, values);
    if (values.length === 0) continue;
    const subject = subjects[index];
    if (typeof subject !== "string" || subject === "" || !isWellFormed(subject)) {
      const problem = `expected the subject of its personal fields to be a text that is not empty, found ${subject === "" ? '""' : typeof subject}`;
      throw new InvalidPayloadError(`${what}: ${problem}`, [{ message: problem, path: [] }]);
    }
    const known = parts.get(subject);
    if (known === undefined) parts.set(subject, values);
    else appendAll(known, values);
  }
  return [...parts].map(([subject, values]) => ({ subject, values }));
}

/** The person whom a payload is about, without taking anything out of it. */
export function subjectsOf(declarations: readonly PersonalFields[], data: unknown, id: string): string[] {
  const found = declarations.map(({ subject }) => subjectOf(subject, data, id));
  return found.filter((subject) => typeof subject === "string" && subject !== "") as string[];
}

function subjectOf(subject: PersonalFields["subject"], data: unknown, id: string): unknown {
  // A copy: the function must not change what is written.
  if (typeof subject === "function") return subject(copyOf(data) as never, id);
  let value: unknown = data;
  for (const step of stepsOf(subject)) value = own(value, step as string);
  return typeof value === "number" ? String(value) : value;
}

function own(value: unknown, key: string | number): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string | number, unknown>)[key]
    : undefined;
}

/** Replaces what is at the end of the steps, and adds it to `values`. */
function take(
  container: unknown,
  steps: readonly Step[],
  place: readonly (string | number)[],
  placeholder: unknown,
  values: PersonalValue[],
): void {
  const [step, ...more] = steps;
  if (step === EACH) {
    if (!Array.isArray(container)) return;
    for (let index = 0; index < container.length; index++)
      takeAt(container, index, more, [...place, index], placeholder, values);
  } else if (step !== undefined && !Array.isArray(container) && own(container, step) !== undefined)
    takeAt(container, step, more, [...place, step], placeholder, values);
}

function takeAt(
  container: unknown,
  key: string | number,
  more: readonly Step[],
  place: readonly (string | number)[],
  placeholder: unknown,
  values: PersonalValue[],
): void {
  const holder = container as Record<string | number, unknown>;
  if (more.length > 0) {
    take(holder[key], more, place, placeholder, values);
    return;
  }
  values.push([place, holder[key]]);
  holder[key] = copyOf(placeholder);
}

/** Puts parts back into a payload, which must be the caller's own. */
export function putPersonal(data: unknown, values: readonly PersonalValue[]): void {
  for (const [place, value] of values) {
    let holder = data;
    for (const key of place.slice(0, -1)) holder = own(holder, key);
    const last = place.at(-1);
    if (last !== undefined && own(holder, last) !== undefined)
      (holder as Record<string | number, unknown>)[last] = value;
  }
}
