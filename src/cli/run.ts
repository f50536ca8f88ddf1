import tab from "@bomb.sh/tab/commander";
import { exitCodeOf } from "./exit-codes.ts";
import { program } from "./program.ts";
import { type Host, Terminal } from "./terminal.ts";

/** Carries out a command line, without `node` and the program's name, and returns the exit code. */
export async function runCommandLine(args: readonly string[], host: Host): Promise<number> {
  const terminal = new Terminal(host);
  const cli = program(terminal);
  tab(cli);
  try {
    await cli.parseAsync(args, { from: "user" });
    return 0;
  } catch (error) {
    return exitCodeOf(error, terminal);
  } finally {
    await terminal.end();
  }
}
