import type { Command } from "commander";
import type { RecordedEvent } from "eventfold-es";
import {
  type CommonOptions,
  formatOf,
  selectionOf,
  type SelectOptions,
  time,
  wholeNumber,
  withApp,
  withFilters,
  withFormats,
  withSelection,
} from "../options.ts";
import { interrupted } from "../interrupted.ts";
import { writeDocument, writeEach, writeEvent, writeList } from "../results.ts";
import { UsageError } from "../exit-codes.ts";
import { withStore } from "../target.ts";
import { aggregateOf } from "./model.ts";
import type { Terminal } from "../terminal.ts";

/** `streams`, `events`, `tail` and `show`. */
export function addReadingCommands(cli: Command, terminal: Terminal): void {
  withFormats(
    cli
      .command("streams <store>")
      .description("list the instances that have events")
      .option("--aggregate <type>", "only instances of this aggregate"),
  )
    .addHelpText("after", "\nExample:\n  eventfold streams ./data --aggregate account")
    .action(async (target: string, options: CommonOptions & { readonly aggregate?: string }) =>
      withStore(target, {}, async ({ store }) =>
        writeList(
          terminal,
          formatOf(options),
          await store.listStreams(options.aggregate),
          [
            { title: "aggregate", value: ({ type }) => type },
            { title: "id", value: ({ id }) => id },
          ],
          "no instance has events",
        ),
      ),
    );

  withApp(
    withFormats(withSelection(cli.command("events <store>").description("print events in the store's order"))),
    "optional",
  )
    .addHelpText(
      "after",
      "\nExamples:\n  eventfold events ./data --reverse --limit 20\n  eventfold events ./data --aggregate account --id ada --jsonl",
    )
    .action(async (target: string, options: SelectOptions) =>
      withStore(target, options, async ({ store }) => {
        await writeEach(terminal, formatOf(options), store.events(selectionOf(options)), (event) =>
          writeEvent(terminal, event),
        );
      }),
    );

  withApp(
    withFormats(withFilters(cli.command("tail <store>").description("print the last events, then each new one"))),
    "optional",
  )
    .option("-n, --lines <n>", "how many of the last events", wholeNumber, 10)
    .addHelpText("after", "\nExample:\n  eventfold tail ./data -n 100 --aggregate account\n\nEnd it with Ctrl-C.")
    .action((target: string, options: SelectOptions & { readonly lines: number }) => tail(terminal, target, options));

  withApp(
    withFormats(cli.command("show <store> <type> <id>").description("print the history of one instance")),
    "optional",
  )
    .option("--version <n>", "up to this version; with --app, its state at that version", wholeNumber)
    .option("--at <time>", "up to this time; with --app, its state at that time", time)
    .addHelpText(
      "after",
      "\nExamples:\n  eventfold show ./data account ada\n  eventfold show ./data account ada --app ./model.js --version 3",
    )
    .action((target: string, type: string, id: string, options: ShowOptions) =>
      show(terminal, target, { type, id }, options),
    );
}

interface ShowOptions extends CommonOptions {
  readonly version?: number;
  readonly at?: number;
}

async function tail(
  terminal: Terminal,
  target: string,
  options: SelectOptions & { readonly lines: number },
): Promise<void> {
  const format = formatOf(options);
  if (format === "json") throw new UsageError("tail does not end, so it has no --json; use --jsonl");
  const signal = interrupted();
  await withStore(target, options, async ({ store }) => {
    const head = await store.head();
    const last: RecordedEvent[] = [];
    const selection = selectionOf(options);
    if (options.lines > 0)
      for await (const event of store.events({ ...selection, to: head, reverse: true, limit: options.lines }))
        last.push(event);
    const write = async (event: RecordedEvent): Promise<void> => {
      if (format === "jsonl") await terminal.line(JSON.stringify(event));
      else await writeEvent(terminal, event);
    };
    for (const event of last.reverse()) await write(event);
    await terminal.flush();
    for await (const event of store.subscribe({ ...selection, from: head + 1, signal })) {
      await write(event);
      await terminal.flush();
      if (terminal.isGone) break;
    }
  });
}

async function show(
  terminal: Terminal,
  target: string,
  { type, id }: { readonly type: string; readonly id: string },
  options: ShowOptions,
): Promise<void> {
  const { version, at } = options;
  if (version !== undefined && at !== undefined)
    throw new UsageError("show expected a version or a time, found both; leave one out");
  const format = formatOf(options);
  await withStore(target, options, async ({ store, model }) => {
    const aggregate = options.app === undefined ? undefined : aggregateOf(model, type);
    const events: RecordedEvent[] = [];
    for await (const event of store.readEvents(type, id)) {
      if (event.version > (version ?? Infinity) || event.timestamp > (at ?? Infinity)) break;
      events.push(event);
    }
    if (events.length === 0) throw new UsageError(`expected events of ${type}/${id}, found none`);
    const moment = version === undefined ? (at === undefined ? {} : { at }) : { version };
    const state: unknown =
      aggregate === undefined ? undefined : await store.get(aggregate, id).state(moment as { version: number });
    if (format === "json") return writeDocument(terminal, format, { aggregate: type, id, events, state });
    await writeEach(terminal, format, events, (event) => writeEvent(terminal, event));
    if (aggregate === undefined) return;
    if (format === "jsonl") return terminal.line(JSON.stringify({ state }));
    await terminal.line("");
    await terminal.line(terminal.colours.bold(`state at version ${events.at(-1)?.version ?? 0}`));
    await terminal.line(JSON.stringify(state, undefined, 2));
  });
}
