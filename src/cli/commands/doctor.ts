import type { Command } from "commander";
import type { Finding, VerifyReport } from "eventfold-es/doctor";
import { Found } from "../exit-codes.ts";
import { type CommonOptions, formatOf, withFormats } from "../options.ts";
import { sizeText, writeDocument } from "../results.ts";
import { checkDirectory } from "../target.ts";
import type { Terminal } from "../terminal.ts";

/** `verify` and `repair`. */
export function addDoctorCommands(cli: Command, terminal: Terminal): void {
  withFormats(cli.command("verify <directory>").description("search a store for damage; exit code 1 if there is any"))
    .addHelpText("after", "\nExample:\n  eventfold verify ./data && echo clean")
    .action(async (directory: string, options: CommonOptions) => {
      checkDirectory(directory);
      const { verify } = await import("eventfold-es/doctor");
      const report = await verify(directory);
      const format = formatOf(options);
      if (format === "text") await writeReport(terminal, report);
      else await writeDocument(terminal, format, report);
      if (!report.clean) throw new Found();
    });

  withFormats(cli.command("repair <directory>").description("repair a damaged store; says first what it would do"))
    .option("--apply", "do it; bytes that are replaced are kept in meta/quarantine/")
    .addHelpText("after", "\nExamples:\n  eventfold repair ./data\n  eventfold repair ./data --apply")
    .action(async (directory: string, options: CommonOptions & { readonly apply?: boolean }) => {
      checkDirectory(directory);
      const { apply = false } = options;
      const { repair } = await import("eventfold-es/doctor");
      const report = await repair(directory, { dryRun: !apply });
      const { actions, lost } = report;
      const format = formatOf(options);
      if (format === "text") {
        for (const { file, message } of actions) await terminal.line(`${file}: ${message}`);
        for (const finding of lost) await writeFinding(terminal, finding);
        if (actions.length === 0 && lost.length === 0) await terminal.line(terminal.colours.green("nothing to repair"));
        else if (!apply) await terminal.line("\nnothing was changed; run again with --apply to do this");
      } else await writeDocument(terminal, format, report);
      if (!apply && actions.length > 0) throw new Found();
      if (lost.length > 0) throw new Found(`${lost.length} finding(s) cannot be repaired: no good copy is left`);
    });
}

async function writeReport(terminal: Terminal, { counts, findings, clean, locked }: VerifyReport): Promise<void> {
  for (const finding of findings) await writeFinding(terminal, finding);
  const { streams, events, bytes, segments, snapshots, checkpoints, deadLetters } = counts;
  const summary = `${events} events in ${streams} streams, ${sizeText(bytes)} in ${segments} segments; ${snapshots} snapshots, ${checkpoints} checkpoints, ${deadLetters} dead letters`;
  await terminal.line(summary);
  if (!locked)
    await terminal.line("the store was in use or is read-only: a commit that was being written may look like damage");
  const { green, red } = terminal.colours;
  await terminal.line(clean ? green("clean") : red("damaged"));
}

async function writeFinding(
  terminal: Terminal,
  { severity, kind, file, line, offset, message, repairable }: Finding,
): Promise<void> {
  const { red, yellow, dim } = terminal.colours;
  const colour = severity === "error" ? red : severity === "warning" ? yellow : dim;
  const place = `${file}${line === undefined ? "" : `:${line}`}${offset === undefined ? "" : ` (byte ${offset})`}`;
  await terminal.line(`${colour(severity)} ${kind}: ${place}: ${message}${repairable ? "" : " (cannot be repaired)"}`);
}
