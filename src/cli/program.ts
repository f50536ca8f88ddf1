import { Command } from "commander";
import { readFileSync } from "node:fs";
import { addCopyCommands } from "./commands/copies.ts";
import { addDoctorCommands } from "./commands/doctor.ts";
import { addForgetCommand } from "./commands/forget.ts";
import { addManagerCommands } from "./commands/managers.ts";
import { addModelCommands } from "./commands/model.ts";
import { addReadingCommands } from "./commands/reading.ts";
import { addSchemaCommand } from "./commands/schema.ts";
import { addStatusCommands } from "./commands/status.ts";
import { addToTestCommand } from "./commands/to-test.ts";
import { addTransferCommands } from "./commands/transfer.ts";
import type { Terminal } from "./terminal.ts";

/** The command line. */
export function program(terminal: Terminal): Command {
  const cli = new Command("eventfold")
    .description("Look into an event store, check it, copy it and repair it.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .enablePositionalOptions()
    .showHelpAfterError("(run with --help for the options)")
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.write(text), writeErr: (text) => terminal.writeError(text) })
    .configureHelp({ sortSubcommands: false })
    .addHelpText(
      "after",
      `
<store> is the directory of a store, postgres://… for a store in PostgreSQL, or nats://…/name for one in JetStream.
Commands that only read never write to a store, and work beside a program that has it open.

Exit codes: 0 done, 1 something was found (or a command failed), 2 usage, 3 the store cannot be read.`,
    );
  addReadingCommands(cli, terminal);
  addStatusCommands(cli, terminal);
  addModelCommands(cli, terminal);
  addSchemaCommand(cli, terminal);
  addToTestCommand(cli, terminal);
  addManagerCommands(cli, terminal);
  addDoctorCommands(cli, terminal);
  addCopyCommands(cli, terminal);
  addTransferCommands(cli, terminal);
  addForgetCommand(cli, terminal);
  return cli;
}

function version(): string {
  // The same place from src/cli/ and from dist/cli/.
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { readonly version: string }).version;
}
