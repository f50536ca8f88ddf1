import { AggregateStore, CommandBus, memory } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Counter, Meter } from "../support/counter.ts";

describe("CommandBus", () => {
  test("new, register, dispatch: a command goes to the aggregate that declares it, and its result is returned", async () => {
    await using store = await AggregateStore.open(memory());
    const bus = new CommandBus(store).register(Counter).register(Meter);
    expect(await bus.dispatch("c-1", { type: "Add", data: { by: 2 } })).toMatchObject({ state: 2, version: 1 });
    expect(await bus.dispatch("m-1", { type: "Measure", data: { watts: 7 } })).toMatchObject({ state: 7 });
    expect(await store.get(Counter, "c-1").state()).toBe(2);
  });

  test("CommandEnvelope: plain JSON, with its address and context", async () => {
    await using store = await AggregateStore.open(memory());
    const bus = new CommandBus(store).register(Counter);
    const envelope = { ...Counter.at("c-1").Add({ by: 2 }), context: { actor: "u-1" } };
    expect(JSON.parse(JSON.stringify(envelope))).toEqual({
      aggregate: "counter",
      id: "c-1",
      command: { type: "Add", data: { by: 2 } },
      context: { actor: "u-1" },
    });
    const { events } = await bus.dispatch(envelope, { correlationId: "r-1" });
    expect(events).toMatchObject([{ type: "Added", actor: "u-1", correlationId: "r-1" }]);
  });

  test("UnknownCommand, UnknownAggregateType, Deserialization: each has its code", async () => {
    await using store = await AggregateStore.open(memory());
    const bus = new CommandBus(store).register(Counter);
    const send = (json: unknown) => bus.dispatchUnknown(json);
    // @ts-expect-error Measure is a command of an aggregate that is not on this bus
    await expect(bus.dispatch("c", { type: "Measure", data: { watts: 1 } })).rejects.toMatchObject({
      code: "UNKNOWN_COMMAND",
    });
    await expect(send({ aggregate: "meter", id: "m", command: { type: "Measure" } })).rejects.toMatchObject({
      code: "UNKNOWN_AGGREGATE",
    });
    await expect(send({ aggregate: "counter", id: "c", command: { type: "Nope" } })).rejects.toMatchObject({
      code: "UNKNOWN_COMMAND",
    });
    await expect(send({ aggregate: "counter", id: "c", command: "Clear" })).rejects.toMatchObject({
      code: "INVALID_COMMAND",
    });
  });
});
