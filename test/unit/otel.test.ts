import diagnostics from "node:diagnostics_channel";
import * as otel from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import * as metrics from "@opentelemetry/sdk-metrics";
import * as traces from "@opentelemetry/sdk-trace-base";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { AggregateStore, type EventStorage, memory, processManager, projection } from "eventfold-es";
import { instrument } from "eventfold-es/otel";
import { manualClock } from "eventfold-es/testing";
import { Account } from "../support/account.ts";
import { describeServers } from "../support/server-storages.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";
import { until } from "../support/until.ts";

const { Open, Deposit, Withdraw } = Account.commands;

beforeAll(() => {
  otel.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
});
afterAll(() => otel.context.disable());

/** Instruments all stores until the end of the test, with the SDK's tracer. */
function tracing(options: { readonly propagate?: boolean } = {}) {
  const exporter = new traces.InMemorySpanExporter();
  const provider = new traces.BasicTracerProvider({ spanProcessors: [new traces.SimpleSpanProcessor(exporter)] });
  const tracer = provider.getTracer("test");
  const stop = instrument(otel, { tracer, meter: false, ...options });
  onTestFinished(stop);
  const spans = (name = ""): traces.ReadableSpan[] =>
    exporter.getFinishedSpans().filter((span) => span.name.startsWith(name));
  return { tracer, stop, spans, reset: () => exporter.reset() };
}

interface Point {
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly value: number | { readonly count: number; readonly sum?: number; readonly max?: number };
}

/** Instruments all stores until the end of the test, with the SDK's meter. */
function measuring() {
  const exporter = new metrics.InMemoryMetricExporter(metrics.AggregationTemporality.CUMULATIVE);
  const reader = new metrics.PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new metrics.MeterProvider({ readers: [reader] });
  const stop = instrument(otel, { tracer: false, meter: provider.getMeter("test") });
  onTestFinished(async () => {
    stop();
    await provider.shutdown();
  });
  const points = async (name: string): Promise<readonly Point[]> => {
    exporter.reset();
    await reader.forceFlush();
    const found = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics: all }) => all));
    return found
      .filter(({ descriptor }) => descriptor.name === name)
      .flatMap(({ dataPoints }) => dataPoints as Point[]);
  };
  const sum = async (name: string, attributes: Record<string, unknown> = {}): Promise<number> =>
    (await points(name))
      .filter((point) => Object.entries(attributes).every(([key, value]) => point.attributes[key] === value))
      .reduce((total, { value }) => total + (typeof value === "number" ? value : (value.sum ?? 0)), 0);
  const count = async (name: string): Promise<number> =>
    (await points(name)).reduce((total, { value }) => total + (typeof value === "number" ? 0 : value.count), 0);
  return { stop, points, sum, count };
}

/** Each span as `name < name of its parent`. */
function tree(spans: readonly traces.ReadableSpan[]): string[] {
  const names = new Map(spans.map((span) => [span.spanContext().spanId, span.name]));
  return spans.map(({ name, parentSpanContext: parent }) =>
    parent === undefined ? name : `${name} < ${names.get(parent.spanId) ?? "unknown"}`,
  );
}

function bank(storage: string | EventStorage, clock = manualClock()) {
  return AggregateStore.builder(storage)
    .aggregate(Purse)
    .aggregate(Transfer)
    .processManager(Transfers)
    .clock(clock.now);
}

const REQUEST = { type: "Request", data: { from: "ada", to: "bob", amount: 40 } } as const;

const TRANSFER = [
  "execute transfer.Request",
  "load transfer < execute transfer.Request",
  "commit < execute transfer.Request",
  "react transfers < execute transfer.Request",
  "commit < react transfers",
  "dispatch purse.Take < react transfers",
  "commit < dispatch purse.Take",
  "react transfers < dispatch purse.Take",
  "dispatch purse.Give < react transfers",
  "load purse < dispatch purse.Give",
  "commit < dispatch purse.Give",
  "react transfers < dispatch purse.Give",
  "commit < react transfers",
  "dispatch transfer.Complete < react transfers",
  "commit < dispatch transfer.Complete",
];

describe("spans", () => {
  test.each(["memory", "files"])("of a bank transfer are one connected trace (%s)", async (kind) => {
    const { spans, reset } = tracing();
    await using store = await bank(kind === "files" ? temporaryDirectory() : memory()).open();
    await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 100 } });
    await store.idle();
    reset();
    await store.get(Transfer, "t").execute(REQUEST);
    await store.idle();
    expect(tree(spans()).toSorted()).toEqual(TRANSFER.toSorted());
    expect(new Set(spans().map((span) => span.spanContext().traceId)).size).toBe(1);
    expect(spans("dispatch purse.Take")[0]?.attributes).toMatchObject({
      "eventfold.process_manager": "transfers",
      "eventfold.aggregate": "purse",
      "eventfold.instance.id": "ada",
      "eventfold.command": "Take",
      "eventfold.cause.position": 2,
      "eventfold.position": 3,
    });
  });

  test("of commands that wait for the same instance have their own commits", async () => {
    const { spans } = tracing();
    await using store = await AggregateStore.open(temporaryDirectory());
    const ada = store.get(Account, "ada");
    await Promise.all([ada.execute(Open({ owner: "Ada" })), ada.execute(Deposit({ amount: 1 }))]);
    expect(
      tree(spans(""))
        .filter((line) => line.startsWith("commit"))
        .toSorted(),
    ).toEqual(["commit < execute account.Deposit", "commit < execute account.Open"]);
  });

  test("are children of the active span, and dispatch is the parent of execute", async () => {
    const { tracer, spans } = tracing();
    await using store = await AggregateStore.builder(memory()).aggregate(Account).open();
    await tracer.startActiveSpan("request", async (span) => {
      await store.dispatch(Account.at("ada").Open({ owner: "Ada" }));
      await store.dispatchAll([Account.at("ada").Deposit({ amount: 1 }), Account.at("bob").Open({ owner: "Bob" })]);
      span.end();
    });
    expect(tree(spans()).toSorted()).toEqual(
      [
        "request",
        "dispatch account.Open < request",
        "execute account.Open < dispatch account.Open",
        "load account < execute account.Open",
        "commit < execute account.Open",
        "dispatch < request",
        "load account < dispatch",
        "commit < dispatch",
      ].toSorted(),
    );
  });

  test("of projections say what was folded", async () => {
    const { spans } = tracing();
    const Sum = projection("sum", { sum: 0 }).on(Account, {
      Deposited: (s, { data }) => ({ sum: s.sum + data.amount }),
    });
    await using store = await AggregateStore.builder(memory()).aggregate(Account).projection(Sum).open();
    await store.dispatchAll([Account.at("ada").Open({ owner: "Ada" }), Account.at("ada").Deposit({ amount: 5 })]);
    await store.projection(Sum);
    expect(spans("project")[0]?.name).toBe("project sum");
    expect(spans("project")[0]?.attributes).toMatchObject({ "eventfold.from": 0, "eventfold.position": 2 });
  });

  test("of a rejection are no errors, those of an error are", async () => {
    const { spans } = tracing();
    await using store = await AggregateStore.open(memory());
    await store.get(Account, "ada").try(Withdraw({ amount: 1 }));
    const [rejected] = spans("execute");
    expect(rejected?.status).toEqual({ code: otel.SpanStatusCode.UNSET });
    expect(rejected?.attributes["eventfold.rejection"]).toBe("NotOpen");
    expect(rejected?.events).toEqual([]);
    const stale = store.get(Account, "ada").execute(Open({ owner: "Ada" }), { expectedVersion: 7 });
    await expect(stale).rejects.toThrow();
    const failed = spans("execute").at(-1);
    expect(failed?.status).toMatchObject({ code: otel.SpanStatusCode.ERROR, message: expect.stringContaining("7") });
    expect(failed?.attributes["error.type"]).toBe("CONFLICT");
    expect(failed?.events.map(({ name }) => name)).toEqual(["exception"]);
  });

  test("of a command that became a dead letter are errors", async () => {
    const { spans } = tracing();
    const Greedy = processManager("greedy", { dispatches: [Account], initial: {} }).on(Account, {
      Opened: (_, e) => Account.at(e.id).Withdraw({ amount: 1_000_000 }),
    });
    await using store = await AggregateStore.builder(memory()).aggregate(Account).processManager(Greedy).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await store.idle();
    const [span] = spans("dispatch");
    expect(span?.attributes).toMatchObject({ "eventfold.dead_letter": true, "error.type": "COMMAND_REJECTED" });
    expect(span?.status.code).toBe(otel.SpanStatusCode.ERROR);
  });

  test("of reactions that run again for the manager's state are not made", async () => {
    const directory = temporaryDirectory();
    const clock = manualClock();
    {
      await using store = await bank(directory, clock).open();
      await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 100 } });
      await store.get(Transfer, "t").execute(REQUEST);
      await store.idle();
    }
    const { rmSync } = await import("node:fs");
    rmSync(`${directory}/process_managers`, { recursive: true });
    const { spans } = tracing();
    await using store = await bank(directory, clock).open();
    await store.idle();
    expect(spans("react")).toEqual([]);
  });
});

describe("propagation", () => {
  test("is off unless asked for", async () => {
    tracing();
    await using store = await AggregateStore.open(memory());
    const { events } = await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(events.length).toBe(1);
    for await (const event of store.get(Account, "ada").events()) expect(event.metadata).toEqual({});
  });

  test("stores the span of the command beside the caller's metadata", async () => {
    const { spans } = tracing({ propagate: true });
    await using store = await AggregateStore.open(memory());
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }), { metadata: { tenant: "x" } });
    const { traceId, spanId } = spans("execute")[0]?.spanContext() ?? {};
    for await (const event of store.get(Account, "ada").events())
      expect(event.metadata).toEqual({ tenant: "x", traceparent: `00-${traceId}-${spanId}-01` });
  });

  test("stores the span of dispatchAll, and of a manager's command that passes middleware", async () => {
    const { spans } = tracing({ propagate: true });
    const seen: string[] = [];
    await using store = await bank(memory())
      .use((envelope, next) => {
        seen.push(envelope.command.type);
        return next(envelope);
      })
      .open();
    await store.dispatchAll([Purse.at("ada").Fill({ amount: 100 }), Transfer.at("t").Request(REQUEST.data)]);
    await store.idle();
    expect(seen).toEqual(["Fill", "Request", "Take", "Give", "Complete"]);
    const idOf = (name: string): string | undefined =>
      spans()
        .find((span) => span.name === name)
        ?.spanContext().spanId;
    const stored: unknown[] = [];
    for await (const event of store.events()) stored.push(String(event.metadata["traceparent"]).split("-")[2]);
    expect(stored).toEqual([
      idOf("dispatch"),
      idOf("dispatch"),
      idOf("dispatch purse.Take"),
      idOf("dispatch purse.Give"),
      idOf("dispatch transfer.Complete"),
    ]);
    expect(new Set(spans().map((span) => span.spanContext().traceId)).size).toBe(1);
  });

  test("continues the trace of the caller's metadata if no span is active", async () => {
    const { spans } = tracing();
    await using store = await AggregateStore.open(memory());
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }), { metadata: { traceparent } });
    await store.get(Account, "ada").execute(Deposit({ amount: 1 }), { metadata: { traceparent: "nonsense" } });
    const [first, second] = spans("execute");
    expect(first?.parentSpanContext).toMatchObject({ spanId: "b7ad6b7169203331", isRemote: true });
    expect(first?.spanContext().traceId).toBe("0af7651916cd43dd8448eb211c80319c");
    expect(second?.parentSpanContext).toBeUndefined();
  });

  test("continues the trace of a transfer after a restart, also with a scheduled command", async () => {
    const directory = temporaryDirectory();
    const clock = manualClock();
    const before = tracing({ propagate: true });
    {
      // Without the manager: a process that only takes commands.
      await using store = await AggregateStore.builder(directory)
        .aggregate(Purse)
        .aggregate(Transfer)
        .clock(clock.now)
        .open();
      await store.get(Transfer, "t").execute(REQUEST);
    }
    const traceId = before.spans("execute transfer.Request")[0]?.spanContext().traceId;
    before.stop();
    const between = tracing({ propagate: true });
    {
      await using store = await bank(directory, clock).open();
      await store.idle();
    }
    expect(between.spans("react")[0]?.spanContext().traceId).toBe(traceId);
    expect(between.spans("dispatch purse.Take")[0]?.spanContext().traceId).toBe(traceId);
    between.stop();
    const after = tracing({ propagate: true });
    clock.advance(31 * 60_000);
    await using _ = await bank(directory, clock).open();
    await until(() => after.spans("dispatch transfer.TimeOut").length > 0);
    expect(after.spans("dispatch transfer.TimeOut")[0]?.spanContext().traceId).toBe(traceId);
    expect(after.spans("commit").at(-1)?.spanContext().traceId).toBe(traceId);
  });
});

describeServers("a store on a server", ({ storage }) => {
  test("has the same trace of a transfer, and measures its batches", async () => {
    const [{ spans, reset }, { sum, count }] = [tracing({ propagate: true }), measuring()];
    await using store = await bank(await storage()).open();
    await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 100 } });
    await store.idle();
    reset();
    await store.get(Transfer, "t").execute(REQUEST);
    await store.idle();
    expect(tree(spans()).toSorted()).toEqual(TRANSFER.toSorted());
    expect(await sum("eventfold.batch.size")).toBeGreaterThanOrEqual(7);
    expect(await sum("eventfold.log.bytes")).toBeGreaterThan(1000);
    // A batch may come between the two.
    await until(async () => (await count("eventfold.flush.duration")) === (await count("eventfold.batch.size")));
  });
});

describe("metrics", () => {
  test("count commands, rejections, failures, events and commits", async () => {
    const { sum, count } = measuring();
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    await Promise.all([1, 2, 3].map((amount) => ada.execute(Deposit({ amount }))));
    await ada.try(Withdraw({ amount: 1000 }));
    await expect(ada.execute(Deposit({ amount: 1 }), { expectedVersion: 1 })).rejects.toThrow();
    await store.dispatchAll([Account.at("ada").Deposit({ amount: 1 }), Account.at("bob").Open({ owner: "Bob" })]);
    await store.dispatch(Account.at("bob").Deposit({ amount: 1 }));
    const deposits = { "eventfold.aggregate": "account", "eventfold.command": "Deposit" };
    expect(await sum("eventfold.commands")).toBe(9);
    expect(await sum("eventfold.commands", { ...deposits, "eventfold.outcome": "accepted" })).toBe(5);
    expect(await sum("eventfold.commands", { "eventfold.outcome": "failed", "error.type": "CONFLICT" })).toBe(1);
    expect(await sum("eventfold.rejections", { "eventfold.command": "Withdraw" })).toBe(1);
    expect(await count("eventfold.command.duration")).toBe(9);
    expect(await sum("eventfold.events", { "eventfold.aggregate": "account" })).toBe(7);
    expect(await count("eventfold.commit.duration")).toBe(6);
    expect(await sum("eventfold.commits.pending")).toBe(0);
    expect(await sum("eventfold.commands.pending")).toBe(0);
    expect(await sum("eventfold.conflicts")).toBe(0);
  });

  test.each(["flush", "os"] as const)("measure batches, bytes and flushes with durability %s", async (durability) => {
    const { sum, count } = measuring();
    const store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).durability(durability).open();
    await Promise.all(["a", "b", "c"].map((id) => store.get(Account, id).execute(Open({ owner: id }))));
    const { sizes } = await store.status();
    await store.close();
    expect(await sum("eventfold.batch.size")).toBe(3);
    const batches = await count("eventfold.batch.size");
    expect(batches).toBeLessThanOrEqual(3);
    expect(await count("eventfold.queue.depth")).toBe(batches);
    if (durability === "flush") expect(await count("eventfold.flush.duration")).toBe(batches);
    else expect(await count("eventfold.flush.duration")).toBeGreaterThan(0);
    const bytes = await sum("eventfold.log.bytes");
    expect(bytes).toBeGreaterThan(300);
    if (sizes !== undefined) expect(bytes).toBeLessThanOrEqual(sizes.log);
  });

  test("count conflicts with another process", async () => {
    const { sum } = measuring();
    const directory = temporaryDirectory();
    await using one = await AggregateStore.builder(directory).aggregate(Account).open();
    await using two = await AggregateStore.builder(directory).aggregate(Account).open();
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await two.get(Account, "ada").state();
    for (let i = 0; i < 20; i++)
      await Promise.all([one, two].map((store) => store.get(Account, "ada").execute(Deposit({ amount: 1 }))));
    expect(await sum("eventfold.conflicts")).toBeGreaterThan(0);
    expect(await sum("eventfold.commands", { "eventfold.outcome": "accepted" })).toBe(41);
  });

  test("measure how far a projection was behind", async () => {
    const { points } = measuring();
    const Sum = projection("sum", { sum: 0 }).on(Account, {
      Deposited: (s, { data }) => ({ sum: s.sum + data.amount }),
    });
    await using store = await AggregateStore.builder(memory()).aggregate(Account).projection(Sum).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    await store.projection(Sum);
    for (let amount = 1; amount <= 3; amount++) await ada.execute(Deposit({ amount }));
    await store.projection(Sum);
    const [lag] = await points("eventfold.projection.lag");
    expect(lag?.attributes).toEqual({ "eventfold.projection": "sum" });
    expect(lag?.value).toMatchObject({ count: 2, sum: 4, max: 3 });
  });

  test("count dead letters, and the commands of process managers", async () => {
    const { sum } = measuring();
    const Greedy = processManager("greedy", { dispatches: [Account], initial: {} }).on(Account, {
      Opened: (_, e) => Account.at(e.id).Withdraw({ amount: 1_000_000 }),
    });
    await using store = await AggregateStore.builder(memory()).aggregate(Account).processManager(Greedy).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await store.idle();
    expect(await sum("eventfold.dead_letters", { "eventfold.consumer": "greedy" })).toBe(1);
    expect(await sum("eventfold.commands", { "eventfold.command": "Withdraw", "eventfold.outcome": "rejected" })).toBe(
      1,
    );
  });

  test("count the instances in memory, down to none when the store is closed", async () => {
    const early = await AggregateStore.open(memory());
    await early.get(Account, "early").state();
    const { sum } = measuring();
    const store = await AggregateStore.open(memory());
    for (const id of ["ada", "bob"]) await store.get(Account, id).execute(Open({ owner: id }));
    expect(await sum("eventfold.instances.live", { "eventfold.aggregate": "account" })).toBe(2);
    await early.close();
    expect(await sum("eventfold.instances.live")).toBe(2);
    await store.close();
    expect(await sum("eventfold.instances.live")).toBe(0);
  });

  test("are back at zero when the instrumentation ends before the work", async () => {
    const { stop, sum } = measuring();
    await using store = await AggregateStore.open(memory());
    const answer = store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(await sum("eventfold.commands.pending")).toBe(1);
    stop();
    await answer;
    expect(await sum("eventfold.commands.pending")).toBe(0);
    expect(await sum("eventfold.instances.live")).toBe(0);
  });
});

describe("the end", () => {
  const channels = [
    ...["execute", "commit", "load", "project", "react", "dispatch"].flatMap((name) =>
      ["start", "end", "asyncStart", "asyncEnd", "error"].map((part) => `tracing:eventfold-es:${name}:${part}`),
    ),
    ...["batch", "flush", "dead-letter", "instance-loaded", "instance-evicted"].map((name) => `eventfold-es:${name}`),
  ];
  const watched = (): string[] => channels.filter((name) => diagnostics.hasSubscribers(name));

  test("leaves no subscriber", () => {
    expect(watched()).toEqual([]);
    const stop = instrument(otel);
    expect(watched().length).toBeGreaterThan(12);
    stop();
    expect(watched()).toEqual([]);
  });

  test("ends the spans that are open", async () => {
    const { stop, spans } = tracing();
    await using store = await AggregateStore.open(memory());
    const answer = store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    stop();
    expect(spans("execute").length).toBe(1);
    await answer;
    expect(spans("execute").length).toBe(1);
  });

  test("of one leaves another running", async () => {
    const [first, second] = [tracing(), tracing()];
    await using store = await AggregateStore.open(memory());
    first.stop();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(first.spans()).toEqual([]);
    expect(second.spans("execute").length).toBe(1);
  });
});
