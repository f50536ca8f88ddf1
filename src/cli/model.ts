import type { AnyAggregate, AnyProcessManager, AnyProjection } from "eventfold-es";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UsageError } from "./exit-codes.ts";

/** The definitions of a program. */
export interface Model {
  readonly aggregates: readonly AnyAggregate[];
  readonly projections: readonly AnyProjection[];
  readonly processManagers: readonly AnyProcessManager[];
  /** The exported names of those that are exports themselves. */
  readonly names: ReadonlyMap<unknown, string>;
}

/**
 * Imports a module and takes the definitions among its exports, also those in exported arrays and objects. Importing it must not start
 * the program. `argument` is what names the module on the command line.
 */
export async function loadModel(app: string | undefined, argument = "--app"): Promise<Model> {
  if (app === undefined) return { aggregates: [], projections: [], processManagers: [], names: new Map() };
  const path = resolve(app);
  if (!existsSync(path)) throw new UsageError(`expected a module at ${path} (${argument}), found nothing there`);
  let module: object;
  try {
    module = (await import(pathToFileURL(path).href)) as object;
  } catch (error) {
    const { code } = error as { readonly code?: unknown };
    const advice =
      code === "ERR_UNKNOWN_FILE_EXTENSION"
        ? "; compile it, or run `node --import tsx node_modules/eventfold-es/dist/cli/main.js …`"
        : "";
    throw new UsageError(`importing ${path} (${argument}) failed: ${String(error)}${advice}`, { cause: error });
  }
  const exported = Object.values(module).flatMap(partsOf);
  const aggregates = unique(exported.filter(isAggregate), ({ type }) => type);
  const projections = unique(exported.filter(isKind<AnyProjection>("projection")), ({ name }) => name);
  const processManagers = unique(exported.filter(isKind<AnyProcessManager>("process-manager")), ({ name }) => name);
  if (aggregates.length === 0)
    throw new UsageError(
      `expected ${path} (${argument}) to export aggregates, found ${Object.keys(module).join(", ") || "no exports"}`,
    );
  const names = new Map(Object.entries(module).map(([name, value]) => [value as unknown, name]));
  return { aggregates, projections, processManagers, names };
}

function partsOf(exported: unknown): readonly unknown[] {
  if (typeof exported !== "object" || exported === null || isDefinition(exported)) return [exported];
  const prototype: unknown = Object.getPrototypeOf(exported);
  return Array.isArray(exported) || prototype === Object.prototype ? Object.values(exported) : [];
}

function isDefinition(value: object): boolean {
  return isAggregate(value) || "kind" in value;
}

function isAggregate(value: unknown): value is AnyAggregate {
  return typeof value === "object" && value !== null && "type" in value && "at" in value && "behaviour" in value;
}

function isKind<D>(kind: string): (value: unknown) => value is D {
  return (value): value is D =>
    typeof value === "object" && value !== null && (value as { readonly kind?: unknown }).kind === kind;
}

function unique<D>(definitions: readonly D[], nameOf: (definition: D) => string): D[] {
  return [...new Map(definitions.map((definition) => [nameOf(definition), definition])).values()];
}
