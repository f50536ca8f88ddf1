import { type Command, InvalidArgumentError, Option } from "commander";
import type { ReadEventsOptions } from "eventfold-es";
import type { Format } from "./terminal.ts";

/** What every command has. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly jsonl?: boolean;
  readonly app?: string;
}

/** Options that select events, as commander parses them. */
export interface SelectOptions extends CommonOptions {
  readonly from?: number;
  readonly to?: number;
  readonly aggregate?: string[];
  readonly type?: string[];
  readonly id?: string[];
  readonly correlation?: string;
  readonly reverse?: boolean;
  readonly limit?: number;
}

export function formatOf({ json = false, jsonl = false }: CommonOptions): Format {
  if (jsonl) return "jsonl";
  return json ? "json" : "text";
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError("Expected a whole number.");
  return value;
}

/** A date and time in ISO 8601, or milliseconds since 1970. */
export function time(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError("Expected a time like 2026-01-31T12:00:00Z.");
  return value;
}

export function jsonValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new InvalidArgumentError(`Expected JSON, for example '{"amount":5}'.`);
  }
}

export function withFormats(command: Command): Command {
  return command
    .addOption(new Option("--json", "print one JSON document").conflicts("jsonl"))
    .addOption(new Option("--jsonl", "print one JSON object a line"));
}

export function withApp(command: Command, need: "optional" | "required"): Command {
  const option = new Option("--app <module>", "the JavaScript module that exports your definitions");
  return command.addOption(need === "required" ? option.makeOptionMandatory() : option);
}

/** The filters that `events` and `tail` share. */
export function withFilters(command: Command): Command {
  return command
    .option("--aggregate <type...>", "only events of these aggregates")
    .option("--type <type...>", "only events of these types");
}

export function withSelection(command: Command): Command {
  return withFilters(command)
    .option("--id <id...>", "only events of these instances")
    .option("--correlation <id>", "only events with this correlation id")
    .option("--from <position>", "first position", wholeNumber)
    .option("--to <position>", "last position", wholeNumber)
    .option("--reverse", "newest first")
    .option("--limit <n>", "at most so many events", wholeNumber);
}

export function selectionOf(options: SelectOptions): ReadEventsOptions<string> {
  const { from, to, aggregate, type, id, correlation, reverse, limit } = options;
  return {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(aggregate === undefined ? {} : { aggregates: aggregate }),
    ...(type === undefined ? {} : { types: type }),
    ...(id === undefined ? {} : { ids: id }),
    ...(correlation === undefined ? {} : { correlationId: correlation }),
    ...(reverse === undefined ? {} : { reverse }),
    ...(limit === undefined ? {} : { limit }),
  };
}
