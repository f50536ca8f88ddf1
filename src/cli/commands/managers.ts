import type { Command } from "commander";
import type { DeadLetter } from "eventfold-es";
import { Found } from "../exit-codes.ts";
import { type CommonOptions, formatOf, jsonValue, withApp, withFormats } from "../options.ts";
import { timeText, writeDocument, writeList } from "../results.ts";
import { withStore } from "../target.ts";
import type { Column, Terminal } from "../terminal.ts";

interface EditOptions extends CommonOptions {
  readonly data: unknown;
  readonly apply?: boolean;
}

const LETTER: readonly Column<DeadLetter>[] = [
  { title: "key", value: ({ key }) => key },
  { title: "time", value: ({ timestamp }) => timeText(timestamp) },
  { title: "sent by", value: ({ processManager, schedule }) => processManager ?? `schedule ${schedule ?? ""}` },
  { title: "command", value: ({ command, aggregate, id }) => `${typeOf(command)} of ${aggregate}/${id}` },
  { title: "error", value: ({ error }) => error },
];

/** `process-managers`, `schedules` and `dead-letters`. */
export function addManagerCommands(cli: Command, terminal: Terminal): void {
  withApp(withFormats(cli.command("process-managers <store>").description("list the process managers")), "required")
    .addHelpText("after", "\nExample:\n  eventfold process-managers ./data --app ./model.js")
    .action(async (target: string, options: CommonOptions) =>
      withStore(target, options, async ({ store }) => {
        const { processManagers } = await store.status();
        await writeList(
          terminal,
          formatOf(options),
          processManagers,
          [
            { title: "name", value: ({ name }) => name },
            { title: "position", value: ({ position }) => position, align: "right" },
            { title: "lag", value: ({ lag }) => lag, align: "right" },
            { title: "scheduled", value: ({ scheduled }) => scheduled.length, align: "right" },
            { title: "dead letters", value: ({ deadLetters }) => deadLetters, align: "right" },
          ],
          "the module exports no process manager",
        );
      }),
    );

  withApp(
    withFormats(cli.command("schedules <store>").description("list the commands that wait for their time")),
    "optional",
  )
    .addHelpText("after", "\nExample:\n  eventfold schedules ./data --app ./model.js")
    .action(async (target: string, options: CommonOptions) =>
      withStore(target, options, async ({ store }) => {
        const { processManagers } = await store.status();
        const ofManagers = processManagers.flatMap(({ name, scheduled }) =>
          scheduled.map(({ key, due, envelope }) => ({ by: name, key, due, envelope })),
        );
        const ofPrograms = (await store.schedules()).map(({ key, due, envelope }) => ({
          by: "the program",
          key,
          due,
          envelope,
        }));
        await writeList(
          terminal,
          formatOf(options),
          [...ofPrograms, ...ofManagers].sort((a, b) => a.due - b.due),
          [
            { title: "due", value: ({ due }) => timeText(due) },
            { title: "key", value: ({ key }) => key },
            { title: "scheduled by", value: ({ by }) => by },
            {
              title: "command",
              value: ({ envelope: { aggregate, id, command } }) => `${typeOf(command)} of ${aggregate}/${id}`,
            },
          ],
          "nothing is scheduled",
        );
      }),
    );

  const letters = cli
    .command("dead-letters")
    .description("list, show, edit, replay and drop commands that could not be delivered");
  withApp(
    withFormats(letters.command("list <store>").description("list them; exit code 1 if there are any")),
    "optional",
  )
    .option("--manager <name>", "only those of this process manager")
    .addHelpText("after", "\nExample:\n  eventfold dead-letters list ./data")
    .action(async (target: string, options: CommonOptions & { readonly manager?: string }) =>
      withStore(target, options, async ({ store }) => {
        const list = await store.deadLetters(options.manager);
        await writeList(terminal, formatOf(options), list, LETTER, "no dead letters");
        if (list.length > 0) throw new Found();
      }),
    );

  withApp(
    withFormats(letters.command("show <store> <key>").description("print one, with the events that led to it")),
    "optional",
  )
    .addHelpText("after", "\nExample:\n  eventfold dead-letters show ./data transfers:17:0")
    .action(async (target: string, key: string, options: CommonOptions) =>
      withStore(target, options, async ({ store }) => {
        const letter = (await store.deadLetters()).find((each) => each.key === key);
        if (letter === undefined)
          throw new Found(`expected a dead letter with the key ${JSON.stringify(key)}, found none`);
        const chain = [];
        if (letter.cause !== undefined) {
          const { position } = letter.cause;
          for await (const event of store.events({ from: position, to: position })) chain.push(event);
        }
        await writeDocument(terminal, formatOf(options), { ...letter, events: chain });
      }),
    );

  withApp(letters.command("replay <store> <key>").description("send its command once more"), "required")
    .addHelpText("after", "\nExample:\n  eventfold dead-letters replay ./data transfers:17:0 --app ./model.js")
    .action(async (target: string, key: string, options: CommonOptions) =>
      withStore(target, { ...options, writes: true }, async ({ store }) => {
        await store.replayDeadLetter(key);
        await terminal.line(`sent the command of ${key}`);
      }),
    );

  withApp(
    letters
      .command("edit <store> <key>")
      .description("print its command with another payload; with --apply, send that")
      .requiredOption("--data <json>", "the payload", jsonValue)
      .option("--apply", "send the command; if it fails, the letter stays as it was"),
    "required",
  )
    .addHelpText(
      "after",
      `\nExample:\n  eventfold dead-letters edit ./data transfers:17:0 --data '{"amount":5}' --apply --app ./model.js`,
    )
    .action(async (target: string, key: string, options: EditOptions) =>
      withStore(target, { ...options, writes: options.apply === true }, async ({ store }) => {
        const { data } = options;
        const letter = (await store.deadLetters()).find((each) => each.key === key);
        if (letter === undefined)
          throw new Found(`expected a dead letter with the key ${JSON.stringify(key)}, found none`);
        const { aggregate, id, command } = letter;
        const before = (command ?? {}) as { readonly data?: unknown };
        await terminal.line(`${typeOf(command)} of ${aggregate}/${id}`);
        await terminal.line(`- ${JSON.stringify(before.data) ?? "no payload"}`);
        await terminal.line(`+ ${JSON.stringify(data)}`);
        if (options.apply !== true) {
          await terminal.line("nothing was sent; call it with --apply to send the command");
          return;
        }
        await store.replayDeadLetter(key, { data });
        await terminal.line(`sent the command of ${key}`);
      }),
    );

  withApp(letters.command("drop <store> <key>").description("give it up"), "required")
    .addHelpText("after", "\nExample:\n  eventfold dead-letters drop ./data transfers:17:0 --app ./model.js")
    .action(async (target: string, key: string, options: CommonOptions) =>
      withStore(target, { ...options, writes: true }, async ({ store }) => {
        await store.dropDeadLetter(key);
        await terminal.line(`dropped ${key}`);
      }),
    );
}

function typeOf(command: unknown): string {
  const { type } = (command ?? {}) as { readonly type?: unknown };
  return typeof type === "string" ? type : "a command";
}
