const { mkdtempSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const library = require("eventfold-es");
const { spec, manualClock } = require("eventfold-es/testing");
const { EXPECTED, wholeProgram } = require("./whole-program.cjs");

const directory = () => mkdtempSync(join(tmpdir(), "eventfold-es-jest-"));
const passTime = (ms) => jest.setSystemTime(Date.now() + ms);

const { aggregate, AggregateStore, CommandRejectedError, data, isEventfoldError } = library;
const Cart = aggregate("cart", {
  initial: { items: [], sizes: {} },
  events: { Added: data(), Emptied: data() },
  commands: { Add: data(), Empty: data() },
  rejections: { IsEmpty: data() },
}).define({
  handle: {
    Add: ({ data: item, emit }) => [emit.Added(item)],
    Empty: ({ state, emit, reject }) => (state.items.length === 0 ? reject.IsEmpty() : emit.Emptied()),
  },
  apply: {
    Added: (state, item) => ({ ...state, items: [...state.items, item] }),
    Emptied: () => ({ items: [], sizes: {} }),
  },
});

afterEach(() => jest.useRealTimers());

test("a program works on disk", async () => {
  // Where the configuration has replaced the timers, the clock stands still.
  const isFaked = "clock" in setTimeout;
  expect(await wholeProgram(library, directory(), isFaked ? passTime : undefined)).toMatchObject(EXPECTED);
});

test("a program works on disk when the timers were replaced after the import", async () => {
  jest.useFakeTimers();
  expect(await wholeProgram(library, directory(), passTime)).toMatchObject(EXPECTED);
});

test("a program works on disk when the timers were replaced before the import", async () => {
  jest.useFakeTimers();
  jest.resetModules();
  expect(await wholeProgram(require("eventfold-es"), directory(), passTime)).toMatchObject(EXPECTED);
});

test("arrays, objects and errors are those of the test", async () => {
  const place = directory();
  const store = await AggregateStore.builder(place).aggregate(Cart).open();
  const cart = store.get(Cart, "c");
  expect(await cart.state()).toStrictEqual({ items: [], sizes: {} });
  const { events } = await cart.execute(Cart.commands.Add({ sizes: [1, [2, { a: null }]] }), {
    metadata: { tags: ["x"] },
  });
  expect(events).toHaveLength(1);
  expect(events[0].data).toStrictEqual({ sizes: [1, [2, { a: null }]] });
  expect(events[0].metadata).toStrictEqual({ tags: ["x"] });
  await cart.execute(Cart.commands.Empty());
  const refused = await cart.execute(Cart.commands.Empty()).catch((error) => error);
  expect(refused).toBeInstanceOf(CommandRejectedError);
  expect(refused).toBeInstanceOf(Error);
  expect(isEventfoldError(refused, "COMMAND_REJECTED")).toBe(true);
  for (const bad of [{ when: new Date() }, { map: new Map() }, { list: new (class extends Array {})() }]) {
    await expect(cart.execute(Cart.commands.Add(bad))).rejects.toThrow(
      expect.objectContaining({ code: "INVALID_PAYLOAD" }),
    );
  }
  await store.close();
  const again = await AggregateStore.builder(place).aggregate(Cart).open();
  expect(await again.get(Cart, "c").state({ version: 1 })).toStrictEqual({
    items: [{ sizes: [1, [2, { a: null }]] }],
    sizes: {},
  });
  expect(await again.get(Cart, "c").state({ at: new Date() })).toStrictEqual({ items: [], sizes: {} });
  await again.close();
});

test("a directory that is none is reported as the library's error, with the system's as its cause", async () => {
  const error = await AggregateStore.builder("/dev/null/store")
    .aggregate(Cart)
    .open()
    .catch((e) => e);
  expect(error).toMatchObject({ code: "IO_ERROR", cause: { code: "ENOTDIR" } });
});

test("specifications and the manual clock work", () => {
  spec(Cart)
    .given({ type: "Added", data: { n: 1 } })
    .when(Cart.commands.Empty())
    .thenEvents({ type: "Emptied" });
  expect(manualClock(new Date(5)).now()).toBe(5);
});
