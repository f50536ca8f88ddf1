import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, type ProcessManager } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const Order = aggregate("order", {
  initial: null,
  events: { Placed: data<{ n: number }>(), Paid: data<{ n: number }>(), Shipped: data<{ n: number }>() },
  commands: { Place: data<{ n: number }>(), Pay: data<{ n: number }>(), Ship: data<{ n: number }>() },
}).define({
  handle: {
    Place: ({ data: d, emit }) => emit.Placed(d),
    Pay: ({ data: d, emit }) => emit.Paid(d),
    Ship: ({ data: d, emit }) => emit.Shipped(d),
  },
  apply: { Placed: (s) => s, Paid: (s) => s, Shipped: (s) => s },
});

const Mail = aggregate("mail", {
  initial: { sent: [] as readonly string[] },
  events: { Sent: data<{ text: string }>() },
  commands: { Send: data<{ text: string }>() },
}).define({
  handle: { Send: ({ data: d, emit }) => emit.Sent(d) },
  apply: { Sent: (s, { text }) => ({ sent: [...s.sent, text] }) },
});

const send = (text: string) => Mail.at("m").Send({ text });
const mailer = (options: { readonly startFrom?: "beginning" | "now"; readonly version?: number } = {}) =>
  processManager("mailer", { dispatches: [Mail], ...options });
type Mailer = ProcessManager<"mailer", null, typeof Mail, "order">;

const OnlyPlaced = mailer().on(Order, { Placed: (_, e) => send(`placed ${e.data.n}`) });
const AlsoPaid = (startFrom?: "beginning" | "now") =>
  mailer(startFrom === undefined ? {} : { startFrom }).on(Order, {
    Placed: (_, e) => send(`placed ${e.data.n}`),
    Paid: (_, e) => send(`paid ${e.data.n}`),
  });

function open(directory: string, manager: Mailer, mode: "manual" | "automatic" = "manual", now?: () => number) {
  const builder = AggregateStore.builder(directory).aggregate(Order).aggregate(Mail).processManager(manager);
  return (now === undefined ? builder : builder.clock(now)).processManagerMode(mode).open();
}
type Store = Awaited<ReturnType<typeof open>>;

const sent = async (store: Store): Promise<readonly string[]> => (await store.get(Mail, "m").state()).sent;
const placed = (n: number) => Order.at("o").Place({ n });
const paid = (n: number) => Order.at("o").Pay({ n });
const checkpoints = (directory: string): string[] =>
  (fs.readdirSync(directory, { recursive: true }) as string[])
    .filter((name) => path.basename(name).startsWith("checkpoint"))
    .map((name) => path.join(directory, name));

/** Lets a version of the manager run once, and ends it. Returns the directory that the next version finds. */
async function once(
  directory: string,
  manager: Mailer,
  how: string,
  commands: readonly (ReturnType<typeof placed> | ReturnType<typeof paid>)[],
) {
  const store = await open(directory, manager);
  for (const command of commands) await store.dispatch(command);
  await store.runProcessManagers();
  const next = how === "killed" ? temporaryDirectory() : directory;
  if (how === "killed") fs.cpSync(directory, next, { recursive: true });
  await store.close();
  if (how === "its checkpoint was deleted") for (const file of checkpoints(directory)) fs.rmSync(file);
  if (how === "its checkpoint was damaged") for (const file of checkpoints(directory)) fs.writeFileSync(file, "{");
  return next;
}

const ENDS = ["it ended in good order", "killed", "its checkpoint was deleted", "its checkpoint was damaged"];

describe.each(ENDS)("a process manager after %s", (how) => {
  test("reacts to all earlier events with a handler that is new, and to none again with the others", async () => {
    const next = await once(temporaryDirectory(), OnlyPlaced, how, [placed(1), paid(2), placed(3), paid(4)]);
    const after = await once(next, AlsoPaid(), how, [paid(5), placed(6)]);
    await using store = await open(after, AlsoPaid());
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["placed 1", "placed 3", "paid 2", "paid 4", "paid 5", "placed 6"]);
  });

  test('reacts to no earlier event with a handler that is new, with startFrom "now"', async () => {
    const next = await once(temporaryDirectory(), OnlyPlaced, how, [placed(1), paid(2)]);
    const after = await once(next, AlsoPaid("now"), how, [paid(3)]);
    await using store = await open(after, AlsoPaid());
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["placed 1", "paid 3"]);
  });

  test("reacts to no handled event with a handler whose code is new, whether it caused something or not", async () => {
    const Quiet = mailer().on(Order, { Placed: (_, e) => (e.data.n === 2 ? send("two") : undefined) });
    const Loud = mailer().on(Order, { Placed: (_, e) => [send(`first ${e.data.n}`), send(`second ${e.data.n}`)] });
    const next = await once(temporaryDirectory(), Quiet, how, [placed(1), placed(2), placed(3)]);
    await using store = await open(next, Loud);
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["two"]);
    await store.dispatch(placed(4));
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["two", "first 4", "second 4"]);
  });

  test("continues where a handler was that was removed and is added again", async () => {
    const next = await once(temporaryDirectory(), AlsoPaid(), how, [placed(1), paid(2)]);
    const without = await once(next, OnlyPlaced, how, [placed(3), paid(4)]);
    const again = await once(without, AlsoPaid("now"), how, [placed(5), paid(6)]);
    await using store = await open(again, AlsoPaid());
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["placed 1", "paid 2", "placed 3", "paid 4", "placed 5", "paid 6"]);
  });

  test("begins with its first event, also if its state is not JSON", async () => {
    const counting = (more: boolean) =>
      processManager("mailer", { dispatches: [Mail], initial: () => new Map([["seen", 0n]]) }).on(Order, {
        Placed: (seen, e) => {
          seen.set("seen", (seen.get("seen") ?? 0n) + 1n);
          return send(`placed ${e.data.n}, ${seen.get("seen")} seen`);
        },
        ...(more
          ? { Paid: (_: unknown, e: { readonly data: { readonly n: number } }) => send(`paid ${e.data.n}`) }
          : {}),
      }) as unknown as Mailer;
    const next = await once(temporaryDirectory(), counting(false), how, [placed(1), paid(2)]);
    await using store = await open(next, counting(true));
    await store.dispatch(placed(3));
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["placed 1, 1 seen", "paid 2", "placed 3, 2 seen"]);
  });
});

test('with startFrom "now", a new process manager ignores the events before the opening, not those before its first run', async () => {
  const directory = temporaryDirectory();
  const before = await open(directory, mailer().on(Order, {}) as Mailer);
  await before.dispatch(placed(1));
  await before.close();
  for (const round of oneTo(2)) {
    await using store = await open(directory, AlsoPaid("now"));
    await store.dispatch(placed(10 * round));
    await store.runProcessManagers();
  }
  await using store = await open(directory, AlsoPaid("now"));
  expect(await sent(store)).toEqual(["placed 10", "placed 20"]);
});

test("two versions of a process manager that run at the same time lose and repeat nothing", async () => {
  const directory = temporaryDirectory();
  await using old = await open(directory, OnlyPlaced);
  for (const n of oneTo(3)) await old.dispatchAll([placed(n), paid(n)]);
  await old.runProcessManagers();
  await using next = await open(directory, AlsoPaid());
  for (const n of [4, 5, 6]) {
    await old.dispatchAll([placed(n), paid(n)]);
    await Promise.all([next.runProcessManagers(), old.runProcessManagers()]);
    await old.runProcessManagers();
  }
  await next.runProcessManagers();
  expect((await sent(next)).toSorted()).toEqual(
    oneTo(6)
      .flatMap((n) => [`paid ${n}`, `placed ${n}`])
      .toSorted(),
  );
});

test("the notes of an old version do not say that a new handler has handled what it has not", async () => {
  const directory = temporaryDirectory();
  await using old = await open(directory, OnlyPlaced);
  const next = await open(directory, AlsoPaid());
  await next.runProcessManagers();
  await next.close();
  // The old version is alone, and goes past an event of the new handler.
  await old.dispatchAll([paid(1), placed(2)]);
  await old.runProcessManagers();
  await using again = await open(directory, AlsoPaid());
  await again.runProcessManagers();
  expect(await sent(again)).toEqual(["placed 2", "paid 1"]);
});

describe("a new handler that catches up", () => {
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const reminding = (more: boolean) =>
    mailer().on(Order, {
      ...(more
        ? {
            Placed: (_: null, e: { readonly data: { readonly n: number } }) => ({
              schedule: [{ in: "1h" as const, key: `k${e.data.n}`, dispatch: send(`late ${e.data.n}`) }],
            }),
          }
        : {}),
      Paid: (_, e) => ({ cancel: [`k${e.data.n}`] }),
    });

  test("sends what it scheduled only if no later event has cancelled it", async () => {
    const directory = temporaryDirectory();
    const first = await open(directory, reminding(false), "manual", clock.now);
    for (const command of [placed(1), paid(1), placed(2), paid(3), placed(3)]) await first.dispatch(command);
    await first.runProcessManagers();
    await first.close();
    clock.advance("2h");
    await using store = await open(directory, reminding(true), "manual", clock.now);
    await store.runProcessManagers();
    expect(await sent(store)).toEqual(["late 2", "late 3"]);
  });
});

test("with a version, the text of the reactions does not count: other text uses the checkpoint, another version does not", async () => {
  const directory = temporaryDirectory();
  const seen: number[] = [];
  const text = [
    mailer({ version: 1 }).on(Order, { Placed: (_, e) => void seen.push(e.data.n) }),
    mailer({ version: 1 }).on(Order, {
      Placed(_, e) {
        seen.push(e.data.n);
        return undefined;
      },
    }),
    mailer({ version: 2 }).on(Order, { Placed: (_, e) => void seen.push(e.data.n) }),
  ];
  const first = await open(directory, text[0] as Mailer);
  await first.dispatch(placed(1));
  await first.runProcessManagers();
  await first.close();
  // The second one reacts to the sample of the first event, too.
  for (const [manager, expected] of [
    [text[1], [1, 1, 2]],
    [text[2], [1, 1, 2, 1, 2, 2]],
  ] as const) {
    await using store = await open(directory, manager as Mailer);
    await store.dispatch(placed(2));
    await store.runProcessManagers();
    expect(seen).toEqual(expected);
  }
});

test("a process manager that runs by itself notes what caused nothing when it has been idle, so other code leaves it", async () => {
  const directory = temporaryDirectory();
  const seen: number[] = [];
  const Quiet = mailer().on(Order, { Placed: (_, e) => void seen.push(e.data.n) });
  await using store = await open(directory, Quiet, "automatic");
  for (const n of oneTo(3)) await store.dispatch(placed(n));
  const log = (): string =>
    fs
      .readdirSync(path.join(directory, "commit_log"))
      .map((name) => fs.readFileSync(path.join(directory, "commit_log", name), "utf8"))
      .join("");
  await until(() => seen.length === 3 && log().includes('{"note":{"handled":3'));
  const copy = temporaryDirectory();
  fs.cpSync(directory, copy, { recursive: true });
  await using other = await open(copy, OnlyPlaced);
  await other.runProcessManagers();
  expect(await sent(other)).toEqual([]);
});
