import type { Attributes, Meter, UpDownCounter } from "@opentelemetry/api";
import type { DispatchTrace } from "../tracing/tracing.ts";
import { type Ended, onNotice, onOperation } from "./channels.ts";
import { errorTypeOf, rejectionOf } from "./failures.ts";

/** In seconds, from 0.1 ms on. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const COUNTS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000];

/** Measures the operations. Returns the function that ends this. */
export function recordMetrics(meter: Meter): () => void {
  const ends = [
    ...measureCommands(meter),
    ...measureCommits(meter),
    ...measureReaders(meter),
    ...measureInstances(meter),
  ];
  return () => {
    for (const end of ends) end();
  };
}

function measureCommands(meter: Meter): (() => void)[] {
  const commands = meter.createCounter("eventfold.commands", { unit: "{command}", description: "Commands answered." });
  const rejections = meter.createCounter("eventfold.rejections", {
    unit: "{command}",
    description: "Commands that the model has rejected.",
  });
  const duration = seconds(meter, "eventfold.command.duration", "Time from the call of a command to its answer.");
  const pending = new Level(meter, "eventfold.commands.pending", "{command}", "Commands that wait or are under way.");
  const seen = new WeakSet<object>();
  const begin = (message: object, count: number): void => {
    seen.add(message);
    pending.add(count);
  };
  const answered = (
    { aggregate, command }: { readonly aggregate: string; readonly command: string },
    failure: { readonly error?: unknown },
    ms: number,
  ): void => {
    const target = { "eventfold.aggregate": aggregate, "eventfold.command": command };
    const rejection = rejectionOf(failure.error);
    const attributes: Attributes = { ...target, "eventfold.outcome": "accepted" };
    if (rejection !== undefined) attributes["eventfold.outcome"] = "rejected";
    else if ("error" in failure)
      Object.assign(attributes, { "eventfold.outcome": "failed", "error.type": errorTypeOf(failure.error) });
    commands.add(1, attributes);
    duration.record(ms / 1000, attributes);
    if (rejection !== undefined) rejections.add(1, { ...target, "eventfold.rejection": rejection });
  };
  return [
    () => pending.close(),
    onOperation(
      "execute",
      (message) => begin(message, 1),
      (message) => {
        if (!seen.delete(message)) return;
        pending.add(-1);
        answered(message, message, message.duration ?? 0);
      },
    ),
    onOperation(
      "dispatch",
      (message) => {
        if (!isExecuted(message)) begin(message, message.commands.length);
      },
      (message) => {
        if (!seen.delete(message)) return;
        pending.add(-message.commands.length);
        const failure = failureOf(message);
        // Another process has sent the commands.
        if (message.position === undefined && failure === undefined) return;
        for (const command of message.commands) answered(command, failure ?? {}, message.duration ?? 0);
      },
    ),
  ];
}

/** Whether its command is one of `eventfold-es:execute` as well. */
function isExecuted({ processManager, commands }: DispatchTrace): boolean {
  return processManager === undefined && commands.length === 1;
}

function failureOf(message: Ended<DispatchTrace>): { readonly error: unknown } | undefined {
  if ("error" in message) return { error: message.error };
  return message.deadLetter === true ? { error: message.failure } : undefined;
}

function measureCommits(meter: Meter): (() => void)[] {
  const events = meter.createCounter("eventfold.events", { unit: "{event}", description: "Events committed." });
  const conflicts = meter.createCounter("eventfold.conflicts", {
    unit: "{commit}",
    description: "Commits that were not written because another came first.",
  });
  const duration = seconds(meter, "eventfold.commit.duration", "Time from the queue to stable storage.");
  const pending = new Level(meter, "eventfold.commits.pending", "{commit}", "Commits that wait or are being written.");
  const batchSize = counts(meter, "eventfold.batch.size", "{commit}", "Commits that were written together.");
  const queueDepth = counts(meter, "eventfold.queue.depth", "{commit}", "Commits that wait when a batch is written.");
  const flush = seconds(meter, "eventfold.flush.duration", "Time to bring a batch to stable storage.");
  const bytes = meter.createCounter("eventfold.log.bytes", { unit: "By", description: "Bytes written to the log." });
  const seen = new WeakSet<object>();
  return [
    () => pending.close(),
    onOperation(
      "commit",
      (message) => {
        seen.add(message);
        pending.add(1);
      },
      (message) => {
        if (!seen.delete(message)) return;
        pending.add(-1);
        const failed: Attributes = "error" in message ? { "error.type": errorTypeOf(message.error) } : {};
        duration.record((message.duration ?? 0) / 1000, failed);
        if (message.conflict === true) conflicts.add(1);
        if (message.position === undefined) return;
        for (const stream of message.streams) events.add(stream.events, { "eventfold.aggregate": stream.aggregate });
      },
    ),
    onNotice("batch", (batch) => {
      batchSize.record(batch.commits);
      queueDepth.record(batch.waiting);
      bytes.add(batch.bytes);
      if (batch.isFlushed) flush.record(batch.duration / 1000);
    }),
    onNotice("flush", (notice) => flush.record(notice.duration / 1000)),
  ];
}

function measureReaders(meter: Meter): (() => void)[] {
  const lag = counts(meter, "eventfold.projection.lag", "{event}", "Positions that a projection was behind when read.");
  const duration = seconds(meter, "eventfold.projection.duration", "Time that a projection took to catch up.");
  const letters = meter.createCounter("eventfold.dead_letters", {
    unit: "{dead_letter}",
    description: "Commands and events that became dead letters.",
  });
  return [
    onOperation(
      "project",
      ({ projection, head, from }) => {
        if (head !== undefined) lag.record(Math.max(head - from, 0), { "eventfold.projection": projection });
      },
      (message) => {
        const failed = "error" in message ? { "error.type": errorTypeOf(message.error) } : {};
        const { projection, rebuild, duration: ms = 0 } = message;
        duration.record(ms / 1000, { "eventfold.projection": projection, "eventfold.rebuild": rebuild, ...failed });
      },
    ),
    onNotice("dead-letter", ({ processManager }) => letters.add(1, { "eventfold.consumer": processManager })),
  ];
}

function measureInstances(meter: Meter): (() => void)[] {
  const live = new Level(meter, "eventfold.instances.live", "{instance}", "Instances in memory.");
  // An instance that was loaded earlier was not counted.
  const counted = new Map<string, number>();
  const count = (aggregate: string, id: string, change: 1 | -1): void => {
    const key = `${aggregate}/${id}`;
    const now = (counted.get(key) ?? 0) + change;
    if (now < 0) return;
    if (now === 0) counted.delete(key);
    else counted.set(key, now);
    live.add(change, { "eventfold.aggregate": aggregate });
  };
  return [
    () => live.close(),
    onNotice("instance-loaded", ({ aggregate, id }) => count(aggregate, id, 1)),
    onNotice("instance-evicted", ({ aggregate, id }) => count(aggregate, id, -1)),
  ];
}

/** A number that rises and falls. Nothing is counted when it is closed. */
class Level {
  readonly #counter: UpDownCounter;
  readonly #values = new Map<string, { readonly attributes: Attributes; value: number }>();

  constructor(meter: Meter, name: string, unit: string, description: string) {
    this.#counter = meter.createUpDownCounter(name, { unit, description });
  }

  add(change: number, attributes: Attributes = {}): void {
    const key = JSON.stringify(attributes);
    const entry = this.#values.get(key) ?? { attributes, value: 0 };
    entry.value += change;
    this.#values.set(key, entry);
    this.#counter.add(change, attributes);
  }

  /** Takes back what is counted: the end of it will not be seen. */
  close(): void {
    for (const { attributes, value } of this.#values.values()) if (value !== 0) this.#counter.add(-value, attributes);
    this.#values.clear();
  }
}

function seconds(meter: Meter, name: string, description: string) {
  return meter.createHistogram(name, { unit: "s", description, advice: { explicitBucketBoundaries: SECONDS } });
}

function counts(meter: Meter, name: string, unit: string, description: string) {
  return meter.createHistogram(name, { unit, description, advice: { explicitBucketBoundaries: COUNTS } });
}
