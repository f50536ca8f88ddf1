import type { Command } from "commander";
import type { ConsumerStatus } from "eventfold-es";
import { type CommonOptions, formatOf, wholeNumber, withApp, withFormats } from "../options.ts";
import { progressOf } from "../progress.ts";
import { sizeText, writeDocument, writeList } from "../results.ts";
import { UsageError } from "../exit-codes.ts";
import { type OpenedStore, withStore } from "../target.ts";
import type { Column, Terminal } from "../terminal.ts";

const CONSUMER: readonly Column<ConsumerStatus>[] = [
  { title: "name", value: ({ name }) => name },
  { title: "position", value: ({ position }) => position, align: "right" },
  { title: "lag", value: ({ lag }) => lag, align: "right" },
];

interface ProjectionOptions extends CommonOptions {
  readonly atPosition?: number;
}

/** `stats`, `projections` and `rebuild`. */
export function addStatusCommands(cli: Command, terminal: Terminal): void {
  withApp(
    withFormats(cli.command("stats <store>").description("print how much there is and how far all readers are")),
    "optional",
  )
    .addHelpText("after", "\nExample:\n  eventfold stats ./data --app ./model.js")
    .action(async (target: string, options: CommonOptions) =>
      withStore(target, options, async ({ store }) => {
        const status = await store.status();
        const format = formatOf(options);
        if (format !== "text") return writeDocument(terminal, format, status);
        const { head, streams, subjects, bytes, projections, processManagers, subscriptions } = status;
        const { bold } = terminal.colours;
        await terminal.line(`${bold("head")}     ${head}`);
        await terminal.line(`${bold("streams")}  ${streams}`);
        if (subjects !== undefined) await terminal.line(`${bold("persons")}  ${subjects}`);
        if (bytes !== undefined) await terminal.line(`${bold("size")}     ${sizeText(bytes)}`);
        const consumers = { projections, "process managers": processManagers, subscriptions };
        for (const [kind, list] of Object.entries(consumers)) {
          if (list.length === 0) continue;
          await terminal.line(`\n${bold(kind)}`);
          await terminal.table<ConsumerStatus>(list, CONSUMER, "");
        }
      }),
    );

  withApp(
    withFormats(
      cli.command("projections <store> [name]").description("list the projections, or print the state of one"),
    ),
    "required",
  )
    .option("--at-position <n>", "the state after the event at this position", wholeNumber)
    .addHelpText("after", "\nExample:\n  eventfold projections ./data balances --app ./model.js")
    .action(async (target: string, name: string | undefined, options: ProjectionOptions) =>
      withStore(target, options, async (opened) => {
        const format = formatOf(options);
        const { atPosition } = options;
        if (name !== undefined) {
          const projection = projectionOf(opened, name);
          const state: unknown =
            atPosition === undefined
              ? await opened.store.projection(projection)
              : await opened.store.projectionAt(projection, atPosition);
          return writeDocument(terminal, format, state);
        }
        const { projections } = await opened.store.status();
        await writeList(terminal, format, projections, CONSUMER, "the module exports no projection");
      }),
    );

  withApp(
    cli.command("rebuild <store> <projection>").description("fold a projection again from the first event"),
    "required",
  )
    .addHelpText("after", "\nExample:\n  eventfold rebuild ./data balances --app ./model.js")
    .action(async (target: string, name: string, options: CommonOptions) =>
      withStore(target, { ...options, writes: true }, async (opened) => {
        const projection = projectionOf(opened, name);
        const show = progressOf(terminal, `rebuilding ${name}`, "events");
        const onProgress = ({ position, head }: { readonly position: number; readonly head: number }): void =>
          show(position, head);
        await opened.store.rebuildProjection(projection, { onProgress });
        await terminal.line(`rebuilt ${name} up to position ${await opened.store.head()}`);
      }),
    );
}

function projectionOf({ model }: OpenedStore, name: string): OpenedStore["model"]["projections"][number] {
  const found = model.projections.find((projection) => projection.name === name);
  if (found !== undefined) return found;
  const names = model.projections.map((projection) => projection.name).join(", ");
  throw new UsageError(
    `expected the module of --app to export a projection ${JSON.stringify(name)}, found ${names || "none"}`,
  );
}
