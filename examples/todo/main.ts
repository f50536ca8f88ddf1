/**
 * A to-do list for the command line. Several terminals may use one list at the same time.
 *
 * npm run start:todo -- add buy milk
 */
import { once } from "node:events";
import { parseArgs } from "node:util";
import { aggregate, AggregateStore, type CommandOf, data, isEventfoldError, type RejectionOf } from "eventfold-es";

const USAGE = `usage: todo <command> [--directory <directory>]

  add <text>      adds an item
  done <number>   marks an item as done
  list            prints the list
  list --watch    prints the list again after each change, until Ctrl+C

The list is in ./data/todo, or in the directory that you name.`;

type Item = { readonly text: string; readonly done: boolean };

// An item's number is its place in the list, from 1 on.
const TodoList = aggregate("todo-list", {
  initial: { items: [] as readonly Item[] },
  events: { Added: data<{ text: string }>(), Finished: data<{ number: number }>() },
  commands: { Add: data<{ text: string }>(), Finish: data<{ number: number }>() },
  rejections: {
    TextMissing: data(),
    ItemUnknown: data<{ number: number }>(),
    ItemFinished: data<{ number: number; text: string }>(),
  },
}).define({
  handle: {
    Add: ({ data: { text }, emit, reject }) => (text === "" ? reject.TextMissing() : emit.Added({ text })),
    Finish: ({ state, data: { number }, emit, reject }) => {
      const item = state.items[number - 1];
      if (item === undefined) return reject.ItemUnknown({ number });
      return item.done ? reject.ItemFinished({ number, text: item.text }) : emit.Finished({ number });
    },
  },
  apply: {
    Added: ({ items }, { text }) => ({ items: [...items, { text, done: false }] }),
    Finished: ({ items }, { number }) => ({
      items: items.map((item, index) => (index === number - 1 ? { ...item, done: true } : item)),
    }),
  },
});

/** The only instance of the aggregate. */
const LIST_ID = "mine";

/** The arguments are wrong. */
class UsageError extends Error {}

try {
  await main();
} catch (error) {
  // Any other error is a bug, whose stack helps.
  if (!(error instanceof UsageError) && !isEventfoldError(error)) throw error;
  console.error(error.message);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

async function main(): Promise<void> {
  const { action, words, directory, watch } = readArguments();
  if (action === "add") await change(directory, TodoList.commands.Add({ text: words.join(" ").trim() }));
  else if (action === "done") await change(directory, TodoList.commands.Finish({ number: toNumber(words) }));
  else if (action === "list" && words.length === 0) await show(directory, watch);
  else throw new UsageError(USAGE);
}

/** Sends a command, and prints the list or the reason why the command was rejected. */
async function change(directory: string, command: CommandOf<typeof TodoList>): Promise<void> {
  await using store = await openStore(directory);
  const outcome = await store.get(TodoList, LIST_ID).try(command);
  if (outcome.ok) return print(outcome.state.items);
  console.error(reason(outcome.rejection));
  process.exitCode = 1;
}

/** Prints the list, and with `watch` prints it again after each commit of this or another process. */
async function show(directory: string, watch: boolean): Promise<void> {
  await using store = await openStore(directory);
  const list = store.get(TodoList, LIST_ID);
  // The position comes first, so that no commit is missed between the two.
  const position = await store.head();
  print((await list.state()).items);
  if (!watch) return;

  const changes = store.subscribe({ from: position + 1 }, async () => {
    // On a terminal, the new list replaces the old one.
    console.clear();
    print((await list.state()).items);
  });
  await once(process, "SIGINT");
  await changes.close();
}

function openStore(directory: string) {
  return AggregateStore.builder(directory).aggregate(TodoList).open();
}

function print(items: readonly Item[]): void {
  items.forEach(({ text, done }, index) => console.log(`${`${index + 1}`.padStart(3)} [${done ? "x" : " "}] ${text}`));
  console.log(`${items.filter(({ done }) => !done).length} of ${items.length} left to do`);
}

function reason(rejection: RejectionOf<typeof TodoList>): string {
  switch (rejection.type) {
    case "TextMissing":
      return "An item needs a text.";
    case "ItemUnknown":
      return `There is no item ${rejection.data.number}.`;
    case "ItemFinished":
      return `Item ${rejection.data.number} is done already: ${rejection.data.text}`;
  }
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        directory: { type: "string", default: "data/todo" },
        watch: { type: "boolean", default: false },
      },
    });
    const [action, ...words] = positionals;
    return { ...values, action, words };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${USAGE}`);
  }
}

function toNumber(words: readonly string[]): number {
  const number = Number(words[0]);
  if (words.length === 1 && Number.isInteger(number)) return number;
  throw new UsageError(`done expects the number of an item, found "${words.join(" ")}"\n\n${USAGE}`);
}
