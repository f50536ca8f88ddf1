import type { Command } from "commander";
import type { CopyProgress, Duration, RecordedEvent } from "eventfold-es";
import { isDeepStrictEqual } from "node:util";
import { Found, UsageError } from "../exit-codes.ts";
import { interrupted } from "../interrupted.ts";
import { type CommonOptions, formatOf, time, wholeNumber, withFormats } from "../options.ts";
import { progressOf } from "../progress.ts";
import { writeDocument, writeEvent } from "../results.ts";
import { checkDirectory, withStore } from "../target.ts";
import { plain, type Terminal } from "../terminal.ts";

interface BackupCommandOptions extends CommonOptions {
  readonly incremental?: boolean;
  readonly keys?: boolean;
}

interface RestoreCommandOptions extends CommonOptions {
  readonly position?: number;
  readonly at?: number;
  readonly keys?: boolean;
}

/** `backup`, `restore`, `follow`, `reclaim`, `adopt` and `compare`. */
export function addCopyCommands(cli: Command, terminal: Terminal): void {
  const progress = (doing: string): ((progress: CopyProgress) => void) => {
    const show = progressOf(terminal, doing, "bytes");
    return ({ bytes, totalBytes }) => show(bytes, totalBytes);
  };

  withFormats(cli.command("backup <directory> <target>").description("copy a store while it is used"))
    .option("--incremental", "add what is new to an earlier backup")
    .option("--keys", "with the keys of personal fields")
    .addHelpText("after", "\nExample:\n  eventfold backup ./data /mnt/backup/data --incremental")
    .action(async (directory: string, target: string, options: BackupCommandOptions) =>
      withStore(directory, { writes: true }, async ({ store }) => {
        const { incremental = false, keys = false } = options;
        const report = await store.backup(target, { incremental, keys, onProgress: progress("copying") });
        const format = formatOf(options);
        if (format !== "text") return writeDocument(terminal, format, report);
        await terminal.line(`copied ${directory} to ${target}, up to position ${report.position}`);
      }),
    );

  withFormats(cli.command("restore <source> <target>").description("make a store in an empty directory from a backup"))
    .option("--position <n>", "up to this position", wholeNumber)
    .option("--at <time>", "up to the last event that is not later than this time", time)
    .option("--keys", "with the keys of personal fields")
    .addHelpText("after", "\nExample:\n  eventfold restore /mnt/backup/data ./data --at 2026-01-31T12:00:00Z")
    .action(async (source: string, target: string, options: RestoreCommandOptions) => {
      checkDirectory(source);
      const { position, at, keys = false } = options;
      const { restore } = await import("eventfold-es");
      const report = await restore(source, target, {
        ...(position === undefined ? {} : { position }),
        ...(at === undefined ? {} : { at }),
        keys,
        onProgress: progress("restoring"),
      });
      const format = formatOf(options);
      if (format !== "text") return writeDocument(terminal, format, report);
      await terminal.line(`restored ${target}, up to position ${report.position}`);
    });

  cli
    .command("follow <source> <target>")
    .description("keep a copy of a store up to date until you press Ctrl-C")
    .addHelpText("after", "\nExample:\n  eventfold follow ./data /mnt/share/data")
    .action(async (source: string, target: string) => {
      checkDirectory(source);
      const signal = interrupted();
      const onProgress = ({ position }: { readonly position: number }): void =>
        terminal.progress(`${target} is up to date, position ${position}`);
      const { follow } = await import("eventfold-es");
      const { position } = await follow(source, target, { signal, onProgress });
      await terminal.line(`${target} has everything up to position ${position}`);
    });

  withFormats(cli.command("reclaim <directory>").description("remove deleted and compacted events for good"))
    .option("--budget <time>", "begin no further file after this time, e.g. 30s")
    .addHelpText("after", "\nExample:\n  eventfold reclaim ./data --budget 10m")
    .action(async (directory: string, options: CommonOptions & { readonly budget?: Duration }) => {
      checkDirectory(directory);
      await withStore(directory, { writes: true }, async ({ store }) => {
        const { budget } = options;
        const show = progressOf(terminal, "reclaiming", "segments");
        const report = await store.reclaim({
          ...(budget === undefined ? {} : { budget }),
          onProgress: ({ segments, totalSegments }) => show(segments, totalSegments),
        });
        const format = formatOf(options);
        if (format !== "text") await writeDocument(terminal, format, report);
        else {
          const { events, bytes, kept, keptFor } = report;
          await terminal.line(`removed ${events} events; the commit log is ${bytes} bytes smaller`);
          if (kept > 0) await terminal.line(`kept ${kept} events, which ${keptFor.map(plain).join(", ")} needs`);
        }
        if (!report.done) throw new Found("expected to reclaim everything, found more; call it again");
      });
    });

  cli
    .command("adopt <directory>")
    .description("take over a directory of the Rust crate: builds the commit log")
    .addHelpText("after", "\nExample:\n  eventfold adopt ./data")
    .action(async (directory: string) => {
      checkDirectory(directory);
      await withStore(directory, { writes: true }, async ({ store }) => {
        const { head, streams } = await store.status();
        await terminal.line(`adopted ${directory}: ${head} events in ${streams} streams`);
      });
    });

  withFormats(
    cli.command("compare <store> <other>").description("compare the events of two stores; exit code 1 if they differ"),
  )
    .addHelpText("after", "\nExample:\n  eventfold compare ./data /mnt/backup/data")
    .action((one: string, other: string, options: CommonOptions) => compare(terminal, one, other, options));
}

async function compare(terminal: Terminal, one: string, other: string, options: CommonOptions): Promise<void> {
  if (one === other) throw new UsageError(`expected two stores, found ${one} twice`);
  await withStore(one, {}, ({ store: first }) =>
    withStore(other, {}, async ({ store: second }) => {
      const others = second.events()[Symbol.asyncIterator]();
      let count = 0;
      for await (const event of first.events()) {
        const next = await others.next();
        const counterpart = next.done === true ? undefined : next.value;
        if (!isDeepStrictEqual(event, counterpart))
          return differ(terminal, options, { one, other, event, counterpart });
        count++;
      }
      const rest = await others.next();
      if (rest.done !== true)
        return differ(terminal, options, { one, other, event: undefined, counterpart: rest.value });
      const format = formatOf(options);
      if (format === "text") return terminal.line(`equal: ${count} events`);
      return writeDocument(terminal, format, { equal: true, events: count });
    }),
  );
}

interface Difference {
  readonly one: string;
  readonly other: string;
  readonly event: RecordedEvent | undefined;
  readonly counterpart: RecordedEvent | undefined;
}

async function differ(terminal: Terminal, options: CommonOptions, difference: Difference): Promise<never> {
  const { one, other, event, counterpart } = difference;
  const format = formatOf(options);
  if (format === "text") {
    for (const [name, found] of [
      [one, event],
      [other, counterpart],
    ] as const) {
      await terminal.line(terminal.colours.bold(`the first difference, in ${name}`));
      if (found === undefined) await terminal.line("no more events");
      else await writeEvent(terminal, found);
    }
  } else await writeDocument(terminal, format, { equal: false, first: event, second: counterpart });
  throw new Found();
}
