import { aggregate, data, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { firstPositions } from "../support/collect.ts";

const Order = aggregate("order", {
  initial: { open: false },
  events: { Placed: data(), Reminded: data() },
  commands: { Place: data(), Remind: data(), Refuse: data() },
  rejections: { No: data() },
}).define({
  handle: {
    Place: ({ emit }) => emit.Placed(),
    Remind: ({ emit }) => emit.Reminded(),
    Refuse: ({ reject }) => reject.No(),
  },
  apply: { Placed: () => ({ open: true }), Reminded: (state) => state },
});
const Count = projection("count", { n: 0 }).on(Order, { Placed: (view) => ({ n: view.n + 1 }) });
const Reminders = processManager("reminders", { dispatches: [Order] }).on(Order, {
  Placed: (_, { id }) => ({
    dispatch: Order.at(id).Refuse(),
    schedule: [
      { in: "2h", key: "later", dispatch: Order.at(id).Remind() },
      { in: "1h", dispatch: Order.at(id).Remind() },
    ],
  }),
});

describe.each(backends)("the status of a store $backend", ({ builder }) => {
  const open = (at = 0) =>
    builder()
      .aggregate(Order)
      .projection(Count)
      .processManager(Reminders)
      .processManagerMode("manual")
      .clock(() => at)
      .open();

  test("is empty for an empty store", async () => {
    await using store = await open();
    const { bytes = 0, sizes, ...status } = await store.status();
    expect(sizes?.streams ?? 0).toBe(0);
    expect(status).toEqual({
      head: 0,
      streams: 0,
      projections: [{ name: "count", position: 0, lag: 0 }],
      processManagers: [{ name: "reminders", position: 0, lag: 0, scheduled: [], deadLetters: 0 }],
      subscriptions: [],
      unknownEvents: [],
    });
    expect(bytes).toBeGreaterThanOrEqual(0);
    await store.close();
    await expect(store.status()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });

  test("says how far each reader is, what waits and what failed", async () => {
    await using store = await open();
    for (const id of ["a", "b"]) await store.dispatch(Order.at(id).Place());
    expect(await firstPositions(1, store.subscribe({ name: "mail", from: 1 }))).toEqual([1]);
    const before = await store.status();
    expect(before).toMatchObject({ head: 2, streams: 2, oldest: { position: 1, timestamp: 0 } });
    const { log = 0, streams = 0, caches = 0, other = 0, reclaimable } = before.sizes ?? {};
    expect(log + streams + caches + other).toBe(before.bytes ?? 0);
    if (before.sizes !== undefined) expect(log).toBeGreaterThan(100);
    expect(reclaimable ?? 0).toBe(0);
    expect(before.projections).toEqual([{ name: "count", position: 0, lag: 2 }]);
    expect(before.processManagers).toMatchObject([{ position: 0, lag: 2, scheduled: [], deadLetters: 0 }]);
    await store.projection(Count);
    await store.runProcessManagers();
    for await (const { position } of store.subscribe({ name: "mail" })) if (position === 2) break;
    const { projections, processManagers, subscriptions } = await store.status();
    expect(projections).toEqual([{ name: "count", position: 2, lag: 0 }]);
    expect(subscriptions).toEqual([{ name: "mail", position: 1, lag: 1 }]);
    const [manager] = processManagers;
    expect(manager).toMatchObject({ name: "reminders", position: 2, lag: 0, deadLetters: 2 });
    const hour = 3_600_000;
    expect(manager?.scheduled.map(({ due, key, envelope }) => [due, key, envelope.command.type])).toEqual([
      [hour, undefined, "Remind"],
      [hour, undefined, "Remind"],
      // A key names one command of its manager: the second replaces the first.
      [2 * hour, "later", "Remind"],
    ]);
  });
});
