import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readDocument, ROOT } from "./documentation.ts";

/** The cells of every table row, without headings. */
const rows = readDocument("docs/from-rust.md")
  .text.split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| crate |"))
  .map((line) =>
    line
      .slice(1, -1)
      .split("|")
      .map((cell) => cell.trim()),
  );

/** The crate's public names; a name that several types have is listed once for each. */
const SURFACE = {
  once: [
    ...["trait Aggregate", "AGGREGATE_TYPE", "type Command", "type DomainEvent", "type Error", "handle", "reducer"],
    ...["to_eventfold_event", "builder", "get", "list", "rebuild_projection", "run_process_managers", "layout"],
    ...["ProcessManagerReport", "list_streams", "read_events", "inject_event", "InjectOptions", "process_manager"],
    ...["aggregate_type", "idle_timeout", "execute", "state", "reader", "is_alive", "trait Projection"],
    ...[
      "trait ProcessManager",
      "react",
      "CommandBus::new",
      "register",
      "dispatch",
      "CommandContext",
      "CommandEnvelope",
    ],
    ...["with_actor", "with_correlation_id", "with_metadata", "with_source_device"],
    ...["ExecuteError::Domain", "ExecuteError::Conflict", "ExecuteError::Io", "ExecuteError::ActorGone"],
    ...["StateError::Io", "StateError::ActorGone", "DispatchError::UnknownAggregateType"],
    ...["DispatchError::UnknownCommand", "DispatchError::Deserialization", "DispatchError::Execution"],
    ...["DispatchError::Io", "streams/<type>/<id>/app.jsonl", "views/state.snapshot.json", "meta/streams.jsonl"],
    ...["projections/<name>/checkpoint.json", "process_managers/<name>/checkpoint.json"],
    ...["process_managers/<name>/dead_letters.jsonl", "read_full", "read_from(offset)", "has_new_events"],
    ...["wait_for_events(timeout)", "archive.jsonl.zst"],
  ],
  twice: ["apply", "open", "projection", "clone", "subscriptions", "NAME"],
};

describe("docs/from-rust.md", () => {
  test("has four cells in every row", () => {
    expect(rows.filter((cells) => cells.length !== 4)).toEqual([]);
  });

  test("has a row for every public name of the crate", () => {
    const named = (name: string): number => rows.filter(([first]) => first?.includes(`\`${name}\``)).length;
    expect(SURFACE.once.filter((name) => named(name) !== 1)).toEqual([]);
    expect(SURFACE.twice.filter((name) => named(name) !== 2)).toEqual([]);
  });

  test("names an existing test in every row, except for planned features", () => {
    const wrong = rows.filter(([, here = "", , test = ""]) => {
      const [, path] = /^`(test\/[\w/.-]+)`$/.exec(test) ?? [];
      return path === undefined ? test !== "—" || here !== "not yet" : !existsSync(join(ROOT, path));
    });
    expect(wrong).toEqual([]);
  });
});
