import { aggregate, AggregateStore, data, processManager, type RecordedEvent } from "eventfold-es";
import { Counter } from "./counter.ts";

/** Accepts numbers, rejects negative ones, and throws on 666. */
export const Sink = aggregate("sink", {
  initial: { taken: [] as readonly number[] },
  events: { Taken: data<{ n: number }>(), Late: data<{ n: number }>() },
  commands: { Take: data<{ n: number }>(), TakeLate: data<{ n: number }>() },
  rejections: { Negative: data<{ n: number }>() },
}).define({
  handle: {
    Take: ({ data: { n }, emit, reject }) => {
      if (n === 666) throw new RangeError("666 is a bug");
      return n < 0 ? reject.Negative({ n }) : emit.Taken({ n });
    },
    TakeLate: ({ data: { n }, emit }) => emit.Late({ n }),
  },
  apply: {
    Taken: (s, { n }) => ({ taken: [...s.taken, n] }),
    Late: (s, { n }) => ({ taken: [...s.taken, n] }),
  },
});

/** Sends every added number to the sink of the same id, and counts the numbers. */
export const Relay = processManager("relay", { dispatches: [Sink], initial: { seen: 0 } }).on(Counter, {
  Added: (state, e) => ({ state: { seen: state.seen + 1 }, dispatch: Sink.at(e.id).Take({ n: e.data.by }) }),
});

/** The numbers that a sink has accepted, in order. */
export async function taken(store: AggregateStore<typeof Sink>, id: string): Promise<readonly number[]> {
  return (await store.get(Sink, id).state()).taken;
}

/** All events of a store in order. */
export async function allEvents(store: AggregateStore): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  for (const { type, id } of await store.listStreams())
    for await (const event of store.readEvents(type, id)) events.push(event);
  return events.sort((a, b) => a.position - b.position);
}

/** Opens a store with the relay. */
export const openRelay = (directory: string, mode: "manual" | "automatic" = "manual") =>
  AggregateStore.builder(directory)
    .aggregate(Counter)
    .aggregate(Sink)
    .processManager(Relay)
    .processManagerMode(mode)
    .open();
