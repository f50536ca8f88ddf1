import type { Command } from "commander";
import { Found } from "../exit-codes.ts";
import { withStore } from "../target.ts";
import type { Terminal } from "../terminal.ts";

/** `forget`. */
export function addForgetCommand(cli: Command, terminal: Terminal): void {
  cli
    .command("forget <store> <subject>")
    .description("forget a person: destroys the key of the personal fields; exit code 1 if there is none")
    .addHelpText("after", "\nExample:\n  eventfold forget ./data c-1")
    .action(async (target: string, subject: string) =>
      withStore(target, { writes: true }, async ({ store }) => {
        if (!(await store.forget(subject)))
          throw new Found(`expected a key of the subject ${JSON.stringify(subject)}, found none`);
        await terminal.line(`forgot ${subject}`);
      }),
    );
}
