import { type Command, Option } from "commander";
import type { AnyAggregate, RecordedEvent, ReplayDifference, ValueChange } from "eventfold-es";
import { Found, UsageError } from "../exit-codes.ts";
import { loadModel, type Model } from "../model.ts";
import { type CommonOptions, formatOf, wholeNumber, withApp, withFormats } from "../options.ts";
import { writeDocument, writeEach, writeEvent } from "../results.ts";
import { withStore } from "../target.ts";
import { plain, type Terminal } from "../terminal.ts";

/** `explain`, `diff`, `check-replay` and `delete`. */
export function addModelCommands(cli: Command, terminal: Terminal): void {
  withApp(
    withFormats(
      cli
        .command("explain <store> <type> <id> [path]")
        .description("print the events that changed a part of an instance's state, newest first"),
    ),
    "required",
  )
    .addHelpText("after", "\nExample:\n  eventfold explain ./data account ada balance --app ./model.js")
    .action(async (target: string, type: string, id: string, path = "", options: CommonOptions) =>
      withStore(target, options, async ({ store, model }) => {
        const changes = await store.get(aggregateOf(model, type), id).explain(path);
        await writeEach(terminal, formatOf(options), changes, async ({ before, after, ...event }) => {
          await writeEvent(terminal, event as RecordedEvent);
          await writeChange(terminal, { path, before, after });
        });
      }),
    );

  withApp(
    withFormats(
      cli
        .command("diff <store> <type> <id> <version> <other>")
        .description("print how the states of an instance at two versions differ"),
    ),
    "required",
  )
    .addHelpText("after", "\nExample:\n  eventfold diff ./data account ada 3 7 --app ./model.js")
    .action(async (target: string, type: string, id: string, from: string, to: string, options: CommonOptions) =>
      withStore(target, options, async ({ store, model }) => {
        const changes = await store.get(aggregateOf(model, type), id).diff(wholeNumber(from), wholeNumber(to));
        const count = await writeEach(terminal, formatOf(options), changes, (change) => writeChange(terminal, change));
        if (count === 0 && formatOf(options) === "text") await terminal.line("no difference");
      }),
    );

  withApp(
    withFormats(
      cli
        .command("check-replay <store>")
        .description("replay a store with new definitions beside the old ones; exit code 1 if results differ"),
    ),
    "required",
  )
    .addOption(new Option("--old <module>", "the JavaScript module with the old definitions").makeOptionMandatory())
    .addHelpText("after", "\nExample:\n  eventfold check-replay ./data --old ./released/model.js --app ./model.js")
    .action(async (target: string, options: CommonOptions & { readonly app: string; readonly old: string }) => {
      const { checkReplay } = await import("eventfold-es");
      const { aggregates, projections, processManagers } = await loadModel(options.app);
      await withStore(target, { app: options.old }, async ({ store, model }) => {
        const known = new Set([
          ...model.aggregates.map(({ type }) => type),
          ...model.projections.map(({ name }) => name),
          ...model.processManagers.map(({ name }) => name),
        ]);
        const definitions = [...aggregates, ...projections, ...processManagers].filter((definition) =>
          known.has("type" in definition ? definition.type : definition.name),
        );
        const differences = await checkReplay(store, definitions);
        const count = await writeEach(terminal, formatOf(options), differences, (difference) =>
          writeDifference(terminal, difference),
        );
        if (count > 0) throw new Found();
        if (formatOf(options) === "text") await terminal.line(terminal.colours.green("no difference"));
      });
    });

  withApp(withFormats(cli.command("delete <store> <type> <id>").description("delete an instance")), "required")
    .option("--final", "the instance must not live again")
    .option("--reason <text>", "why; it stays in the store, so name no person in it")
    .addHelpText("after", "\nExample:\n  eventfold delete ./data account ada --reason closed --app ./model.js")
    .action(async (target: string, type: string, id: string, options: DeleteCommandOptions) =>
      withStore(target, { ...options, writes: true }, async ({ store, model }) => {
        const { final = false, reason } = options;
        const result = await store.delete(aggregateOf(model, type), id, {
          final,
          ...(reason === undefined ? {} : { reason }),
        });
        const format = formatOf(options);
        if (format !== "text") await writeDocument(terminal, format, result);
        else if (result.deleted) await terminal.line(`deleted ${plain(`${type}/${id}`)}`);
        if (!result.deleted) throw new Found(`expected events of ${type}/${id}, found none`);
      }),
    );
}

interface DeleteCommandOptions extends CommonOptions {
  readonly final?: boolean;
  readonly reason?: string;
}

/** Throws a usage error for a type that the model does not have. */
export function aggregateOf({ aggregates }: Model, type: string): AnyAggregate {
  const found = aggregates.find((aggregate) => aggregate.type === type);
  if (found !== undefined) return found;
  const types = aggregates.map((aggregate) => aggregate.type).join(", ");
  throw new UsageError(`expected the module of --app to export an aggregate ${JSON.stringify(type)}, found ${types}`);
}

async function writeChange(terminal: Terminal, { path, before, after }: ValueChange): Promise<void> {
  const { red, green } = terminal.colours;
  const name = path === "" ? "state" : plain(path);
  await terminal.line(`         ${name}: ${red(valueText(before))} → ${green(valueText(after))}`);
}

async function writeDifference(terminal: Terminal, difference: ReplayDifference): Promise<void> {
  const { kind, name, id, event, changes, error } = difference;
  await terminal.line(terminal.colours.bold(plain(`${kind} ${id === undefined ? name : `${name}/${id}`}`)));
  if (event !== undefined) await writeEvent(terminal, event);
  if (error !== undefined) await terminal.line(`         the new code throws: ${plain(error)}`);
  for (const change of changes) await writeChange(terminal, change);
}

function valueText(value: unknown): string {
  return value === undefined ? "nothing" : plain(JSON.stringify(value));
}
