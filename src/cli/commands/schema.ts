import type { Command } from "commander";
import type { AuditFinding, LockDifference } from "eventfold-es/schema";
import { existsSync } from "node:fs";
import { Found } from "../exit-codes.ts";
import { loadModel } from "../model.ts";
import { type CommonOptions, formatOf, withFormats } from "../options.ts";
import { writeEach } from "../results.ts";
import { withStore } from "../target.ts";
import { plain, type Terminal } from "../terminal.ts";

interface SchemaOptions extends CommonOptions {
  readonly lock: string;
  readonly check?: boolean;
  readonly force?: boolean;
  readonly store?: string;
  readonly sources?: string[];
}

/** `schema`. */
export function addSchemaCommand(cli: Command, terminal: Terminal): void {
  withFormats(
    cli
      .command("schema <module>")
      .description("write the events of your aggregates to a lock file, or check them against it or against a store"),
  )
    .option("--lock <file>", "the lock file", "events.lock.json")
    .option("--check", "compare with the lock file and write nothing; exit code 1 if stored events would be misread")
    .option("--force", "replace the lock file although --check would find something")
    .option("--store <store>", "read every event of a store with your aggregates; exit code 1 if one cannot be read")
    .option("--sources <file...>", "the TypeScript files that declare the aggregates, for the types of data<T>()")
    .addHelpText(
      "after",
      `
Examples:
  eventfold schema ./model.js --sources src/model.ts
  eventfold schema ./model.js --sources src/model.ts --check
  eventfold schema ./model.js --store ./data`,
    )
    .action(async (module: string, options: SchemaOptions) => {
      const { aggregates } = await loadModel(module, "<module>");
      const { lock, check = false, force = false, store: target, sources = [] } = options;
      const format = formatOf(options);
      const { auditStore, checkEventLock, writeEventLock } = await import("eventfold-es/schema");
      const audited =
        target === undefined ? [] : await withStore(target, {}, ({ store }) => auditStore(store, aggregates));
      const isWriting = target === undefined && !check;
      const isCompared = check || (isWriting && !force && existsSync(lock));
      const compared = isCompared ? await checkEventLock(lock, aggregates, { sources }) : [];
      const findings: (AuditFinding | LockDifference)[] = [...audited, ...compared];
      if (isWriting && findings.length === 0) await writeEventLock(lock, aggregates, { sources, force });
      const count = await writeEach(terminal, format, findings, (finding) => writeFinding(terminal, finding));
      if (count > 0) throw new Found(isWriting ? `${lock} was not replaced; --force replaces it` : undefined);
      if (format !== "text") return;
      if (isWriting) await terminal.line(`wrote ${plain(lock)}`);
      else await terminal.line(terminal.colours.green("no difference"));
    });
}

async function writeFinding(terminal: Terminal, finding: AuditFinding | LockDifference): Promise<void> {
  const { yellow } = terminal.colours;
  if (!("count" in finding)) return terminal.line(`${yellow(finding.kind)}  ${plain(finding.message)}`);
  const { kind, count, position, message } = finding;
  const events = count === 1 ? "1 event" : `${count} events`;
  await terminal.line(`${yellow(kind)}  ${events} from position ${position} on: ${plain(message)}`);
}
