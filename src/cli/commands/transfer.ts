import type { Command } from "commander";
import type { TransferProgress } from "eventfold-es";
import { createReadStream, existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { UsageError } from "../exit-codes.ts";
import { type CommonOptions, formatOf, withFormats } from "../options.ts";
import { progressOf } from "../progress.ts";
import { writeDocument } from "../results.ts";
import { withStore } from "../target.ts";
import type { Terminal } from "../terminal.ts";

/** `export` and `import`. */
export function addTransferCommands(cli: Command, terminal: Terminal): void {
  const progress = (doing: string): ((progress: TransferProgress) => void) => {
    const show = progressOf(terminal, doing, "events");
    return ({ events, head }) => show(events, head);
  };

  cli
    .command("export <store>")
    .description("print a whole store as lines of JSON, which import reads")
    .addHelpText(
      "after",
      "\nExamples:\n  eventfold export ./data > store.jsonl\n  eventfold export ./data | gzip > store.jsonl.gz",
    )
    .action(async (target: string) =>
      withStore(target, {}, async ({ store }) => {
        for await (const line of store.export({ onProgress: progress("exporting") })) {
          await terminal.line(line);
          if (terminal.isGone) throw new Error("the reader of the output has gone: the export is not complete");
        }
      }),
    );

  withFormats(
    cli.command("import <store> [file]").description("read the lines of an export, from a file or the standard input"),
  )
    .addHelpText(
      "after",
      "\nExamples:\n  eventfold import ./data store.jsonl\n  eventfold export ./data | eventfold import postgres://localhost/app\n\nIf an import is cut off, run it again: it goes on.",
    )
    .action(async (target: string, file: string | undefined, options: CommonOptions) => {
      if (file !== undefined && !existsSync(file))
        throw new UsageError(`expected an export at ${file}, found nothing there`);
      await withStore(target, { writes: true, mayBeNew: true }, async ({ store }) => {
        const input = file === undefined ? process.stdin : createReadStream(file);
        const lines = createInterface({ input, crlfDelay: Infinity });
        const report = await store.import(lines, { onProgress: progress("importing") });
        const format = formatOf(options);
        if (format !== "text") return writeDocument(terminal, format, report);
        const { events, skipped, renumbered, position } = report;
        await terminal.line(
          `imported ${events} events, ${skipped} were there already${renumbered ? "; they have new positions" : ""}; the last position is ${position}`,
        );
      });
    });
}
