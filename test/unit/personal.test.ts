import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, type EventStorage, memory, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { describeServers } from "../support/server-storages.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Customer = aggregate("customer", {
  initial: { name: "", street: "", orders: 0, note: "" },
  events: {
    Registered: data<{ customer: string; name: string; address: { street: string; city: string } }>().personal(
      "customer",
      { customer: "(forgotten)", name: "(forgotten)", "address.street": "" },
    ),
    Ordered: data<{ sum: number }>(),
    Noted: data<{ by: string; about: string; note: string; signature?: string }>()
      .personal("about", { about: "-", note: "gone" })
      .personal("by", { by: "-", signature: "-" }),
  },
  commands: {
    Register: data<{ customer: string; name: string; street: string }>(),
    Order: data<{ sum: number }>(),
    Note: data<{ by: string; about: string; note: string; signature?: string }>(),
  },
}).define({
  handle: {
    Register: ({ data: { customer, name, street }, emit }) =>
      emit.Registered({ customer, name, address: { street, city: "Graz" } }),
    Order: ({ data, emit }) => emit.Ordered(data),
    Note: ({ data, emit }) => emit.Noted(data),
  },
  apply: {
    Registered: (state, { name, address }) => ({ ...state, name, street: address.street }),
    Ordered: (state) => ({ ...state, orders: state.orders + 1 }),
    Noted: (state, { note }) => ({ ...state, note }),
  },
  snapshotEvery: 2,
});

const Names = projection("names", () => ({ names: [] as string[], orders: 0 })).on(Customer, {
  Registered: (state, { data }) => void state.names.push(data.name),
  Ordered: (state) => void state.orders++,
});

const { commands } = Customer;
const ada = { customer: "c-ada-77", name: "Ada Lovelace", street: "St James's Square 12" };
const bob = { customer: "c-bob-78", name: "Bob", street: "Main Street 1" };

const open = (storage: EventStorage | string) =>
  AggregateStore.builder(storage).aggregate(Customer).projection(Names).open();

/** All bytes of a directory. */
function bytesOf(directory: string): string {
  const names = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.name}\n${fs.readFileSync(path.join(entry.parentPath, entry.name), "latin1")}`)
    .join("\n");
}

function expectNothingOf(directory: string, texts: readonly string[]): void {
  const bytes = bytesOf(directory);
  for (const text of texts) expect(bytes.includes(Buffer.from(text).toString("latin1"))).toBe(false);
}

type Place = () => EventStorage | string | Promise<EventStorage>;

describe("personal fields in memory", () => personalFields(memory));
describe("personal fields in files", () => personalFields(temporaryDirectory));
describeServers("personal fields on a server", ({ storage }) => personalFields(storage));

function personalFields(place: Place): void {
  test("are plain for all readers until the person is forgotten", async () => {
    const storage = await place();
    const store = await open(storage);
    const instance = store.get(Customer, "1");
    await instance.execute(commands.Register(ada));
    await store.dispatch(Customer.at("2").Register(bob));
    await instance.execute(commands.Order({ sum: 3 }));
    expect(await instance.state()).toMatchObject({ name: ada.name, street: ada.street, orders: 1 });
    expect(await store.projection(Names)).toEqual({ names: [ada.name, "Bob"], orders: 1 });
    expect((await store.status()).subjects).toBe(2);
    expect(await store.forget(ada.customer)).toBe(true);
    expect(await store.forget(ada.customer)).toBe(false);
    expect((await store.status()).subjects).toBe(1);
    expect(await instance.state()).toEqual({ name: "(forgotten)", street: "", orders: 1, note: "" });
    expect(await store.projection(Names)).toEqual({ names: ["(forgotten)", "Bob"], orders: 1 });
    const events = [];
    for await (const event of store.events()) events.push(event.data);
    expect(events[0]).toEqual({
      customer: "(forgotten)",
      name: "(forgotten)",
      address: { street: "", city: "Graz" },
    });
    expect(events[1]).toMatchObject({ name: "Bob" });
    await store.close();
    const again = await open(storage);
    expect(await again.get(Customer, "1").state()).toMatchObject({ name: "(forgotten)" });
    expect(await again.projection(Names)).toEqual({ names: ["(forgotten)", "Bob"], orders: 1 });
    expect(await again.get(Customer, "2").state()).toMatchObject({ name: "Bob" });
    await again.close();
  });

  test("of two persons in one event are forgotten one by one", async () => {
    const store = await open(await place());
    const instance = store.get(Customer, "1");
    await instance.execute(commands.Note({ by: "p-1", about: "p-2", note: "tall", signature: "✍️" }));
    await instance.execute(commands.Note({ by: "p-1", about: "p-1", note: "self" }));
    const read = async () => {
      const found = [];
      for await (const { data } of instance.events()) found.push(data);
      return found;
    };
    await store.forget("p-2");
    expect(await read()).toEqual([
      { by: "p-1", about: "-", note: "gone", signature: "✍️" },
      { by: "p-1", about: "p-1", note: "self" },
    ]);
    await store.forget("p-1");
    expect(await read()).toEqual([
      { by: "-", about: "-", note: "gone", signature: "-" },
      { by: "-", about: "-", note: "gone" },
    ]);
    await store.close();
  });

  test("a forgetting is seen by another store before it reads or commits", async () => {
    const storage = await place();
    const [a, b] = [await open(storage), await open(storage)];
    await a.get(Customer, "1").execute(commands.Register(ada));
    const other = b.get(Customer, "1");
    expect(await other.state()).toMatchObject({ name: ada.name });
    expect(await b.projection(Names)).toMatchObject({ names: [ada.name] });
    await a.forget(ada.customer);
    const { state } = await other.execute(commands.Order({ sum: 1 }));
    expect(state).toMatchObject({ name: "(forgotten)", orders: 1 });
    expect(await b.projection(Names)).toMatchObject({ names: ["(forgotten)"] });
    await Promise.all([a.close(), b.close()]);
  });

  test("events after a forgetting get a new key", async () => {
    const store = await open(await place());
    await store.dispatch(Customer.at("1").Register(ada));
    await store.forget(ada.customer);
    await store.dispatch(Customer.at("2").Register(ada));
    expect(await store.projection(Names)).toMatchObject({ names: ["(forgotten)", ada.name] });
    expect((await store.status()).subjects).toBe(1);
    await store.close();
  });
}

test("nothing of a forgotten person is left in a directory", async () => {
  const directory = temporaryDirectory();
  const store = await open(directory);
  for (let n = 0; n < 3; n++) await store.dispatch(Customer.at("1").Register(ada));
  await store.dispatch(Customer.at("2").Register(bob));
  await store.projection(Names);
  await store.close();
  expectNothingOf(directory, [ada.name, ada.street, bob.name]);
  const again = await open(directory);
  expect(await again.projection(Names)).toMatchObject({ names: [ada.name, ada.name, ada.name, "Bob"] });
  await again.forget(ada.customer);
  expectNothingOf(directory, [ada.name, ada.street, ada.customer]);
  await again.projection(Names);
  await again.close();
  expectNothingOf(directory, [ada.name, ada.street, ada.customer]);
});

// A manager that remembers names, and sends them later.
const Mail = aggregate("mail", {
  initial: { sent: [] as string[] },
  events: { Sent: data<{ to: string }>().personal((_, id) => id.slice("to-".length), { to: "(forgotten)" }) },
  commands: { Send: data<{ to: string }>(), Refuse: data<{ to: string }>() },
  rejections: { Refused: data<{ to: string }>() },
}).define({
  handle: {
    Send: ({ data, emit }) => emit.Sent(data),
    Refuse: ({ data, reject }) => reject.Refused(data),
  },
  apply: { Sent: (state, { to }) => ({ sent: [...state.sent, to] }) },
});

const Reminders = processManager("reminders", {
  initial: () => ({ names: {} as Record<string, string> }),
  dispatches: [Mail],
}).on(Customer, {
  Registered: (state, { id, data }) => {
    state.names[id] = data.name;
    return { state };
  },
  Ordered: (state, { id }) => ({
    dispatch: [Mail.at(`to-c${id}`).Refuse({ to: state.names[id] ?? "" })],
    schedule: [{ dispatch: Mail.at(`to-c${id}`).Send({ to: state.names[id] ?? "" }), in: "1h", key: `k${id}` }],
  }),
});

describe("process managers in memory", () => sendPlaceholders(memory));
describe("process managers in files", () => sendPlaceholders(temporaryDirectory));
describeServers("process managers on a server", ({ storage }) => sendPlaceholders(storage));

function sendPlaceholders(place: Place): void {
  test("send what was scheduled with placeholders, and that of others as it was", async () => {
    const storage = await place();
    let now = 1_800_000_000_000;
    const openAll = () =>
      AggregateStore.builder(storage)
        .aggregate(Customer)
        .aggregate(Mail)
        .processManager(Reminders)
        .processManagerMode("manual")
        .clock(() => now)
        .open();
    const store = await openAll();
    await store.dispatch(Customer.at("1").Register(ada));
    await store.dispatch(Customer.at("2").Register(bob));
    await store.dispatch(Customer.at("1").Order({ sum: 1 }));
    await store.dispatch(Customer.at("2").Order({ sum: 1 }));
    await store.runProcessManagers();
    expect((await store.deadLetters()).map(({ command }) => command)).toEqual([
      { type: "Refuse", data: { to: ada.name } },
      { type: "Refuse", data: { to: "Bob" } },
    ]);
    if (typeof storage === "string") expectNothingOf(storage, [ada.name, "Bob"]);
    await store.forget(ada.customer);
    await store.runProcessManagers();
    expect((await store.deadLetters()).map(({ command }) => command)).toEqual([
      { type: "Refuse", data: { to: "(forgotten)" } },
      { type: "Refuse", data: { to: "Bob" } },
    ]);
    expect((await store.status()).processManagers[0]?.scheduled.map(({ envelope }) => envelope.command)).toEqual([
      { type: "Send", data: { to: "(forgotten)" } },
      { type: "Send", data: { to: "Bob" } },
    ]);
    await store.close();
    now += 2 * 3_600_000;
    const again = await openAll();
    await again.runProcessManagers();
    expect(await again.get(Mail, "to-c1").state()).toEqual({ sent: ["(forgotten)"] });
    expect(await again.get(Mail, "to-c2").state()).toEqual({ sent: ["Bob"] });
    if (typeof storage === "string") expectNothingOf(storage, [ada.name, ada.customer, "Bob"]);
    await again.close();
  });
}

// A handler that writes what it knows of a person to another event.
const Card = aggregate("card", {
  initial: { name: "" },
  events: {
    Made: data<{ name: string }>().personal((_, id) => `owner of ${id}`, { name: "(forgotten)" }),
    Copied: data<{ name: string }>(),
  },
  commands: { Make: data<{ name: string }>(), Copy: data(), Refuse: data() },
  rejections: { No: data<{ name: string }>() },
}).define({
  handle: {
    Make: ({ data: given, emit }) => emit.Made(given),
    Copy: ({ state, emit }) => emit.Copied({ name: state.name }),
    Refuse: ({ state, reject }) => reject.No({ name: state.name }),
  },
  apply: { Made: (_, { name }) => ({ name }), Copied: (state) => state },
  snapshotEvery: 1,
});

const Copier = processManager("copier", { dispatches: [Card], initial: () => ({ name: "" }) }).on(Card, {
  Made: (_, { data: { name } }) => ({ state: { name } }),
  Copied: (state, { id }) => (id === "target" ? undefined : { dispatch: Card.at("target").Make({ name: state.name }) }),
});

describe.each(["memory", "files"] as const)(
  "a store in %s that knows a person whom another one has forgotten",
  (kind) => {
    const make = async () => {
      const storage: EventStorage | string = kind === "memory" ? memory() : temporaryDirectory();
      const openCards = () =>
        AggregateStore.builder(storage).aggregate(Card).processManager(Copier).processManagerMode("manual").open();
      const [a, b] = [await openCards(), await openCards()];
      await b.get(Card, "1").execute(Card.commands.Make({ name: "Ada" }));
      await b.runProcessManagers();
      expect((await b.get(Card, "1").state()).name).toBe("Ada");
      await a.forget("owner of 1");
      return { b, close: () => Promise.all([a.close(), b.close()]) };
    };
    const copies = async (store: AggregateStore<typeof Card>, id = "1"): Promise<unknown[]> => {
      const found = [];
      for await (const event of store.readEvents("card", id))
        if (event.type !== "Made" || id !== "1") found.push(event.data);
      return found;
    };

    test("decides commands without the name", async () => {
      const { b, close } = await make();
      const { Copy, Refuse } = Card.commands;
      const card = b.get(Card, "1");
      const results = await Promise.allSettled([card.execute(Copy()), card.try(Refuse()), card.execute(Copy())]);
      expect(results[1]).toMatchObject({ value: { rejection: { data: { name: "(forgotten)" } } } });
      expect(await copies(b)).toEqual([{ name: "(forgotten)" }, { name: "(forgotten)" }]);
      await close();
    });

    test("decides several commands of one commit without the name", async () => {
      const { b, close } = await make();
      await b.dispatchAll([Card.at("1").Copy(), Card.at("2").Copy()]);
      expect(await copies(b)).toEqual([{ name: "(forgotten)" }]);
      await close();
    });

    test("lets its process managers react without the name", async () => {
      const { b, close } = await make();
      await b.dispatch(Card.at("1").Copy());
      await b.runProcessManagers();
      expect(await copies(b, "target")).toEqual([{ name: "(forgotten)" }]);
      await close();
    });
  },
);

test("a handler that failed gets an event without the name when it is tried again", async () => {
  const store = await AggregateStore.builder(memory()).aggregate(Card).open();
  await store.dispatch(Card.at("1").Make({ name: "Ada" }));
  const seen: string[] = [];
  let forget: Promise<unknown> | undefined;
  const subscription = store.subscribe({ types: ["Made"], onError: () => {} }, async (event) => {
    seen.push((event.data as { name: string }).name);
    forget ??= store.forget("owner of 1");
    await forget;
    if (seen.length < 2) throw new Error("not yet");
  });
  await store.idle();
  await subscription.close();
  expect(seen).toEqual(["Ada", "(forgotten)"]);
  await store.close();
});

test("a store with personal fields reclaims, and what is left can be read and forgotten", async () => {
  const directory = temporaryDirectory();
  const store = await open(directory);
  await store.dispatch(Customer.at("1").Register(ada));
  await store.dispatch(Customer.at("2").Register(bob));
  await store.delete(Customer, "1");
  await store.reclaim();
  expect(await store.get(Customer, "2").state()).toMatchObject({ name: "Bob" });
  expect(await store.forget(bob.customer)).toBe(true);
  expect(await store.get(Customer, "2").state()).toMatchObject({ name: "(forgotten)" });
  await store.close();
  const again = await open(directory);
  expect(await again.get(Customer, "2").state()).toMatchObject({ name: "(forgotten)" });
  await again.close();
  expectNothingOf(directory, [ada.name, ada.street, bob.customer]);
});
