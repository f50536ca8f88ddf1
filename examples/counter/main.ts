/**
 * The smallest program: counters, a projection over all of them, a process manager that counts the resets, and the bus.
 *
 * npm run start:counter [directory]
 */
import { aggregate, AggregateStore, CommandBus, data, processManager, projection } from "eventfold-es";

// The contract of an aggregate names its events, commands and rejections. The behaviour decides and folds.
const Counter = aggregate("counter", {
  initial: { count: 0 },
  events: { Increased: data<{ by: number }>(), Decreased: data<{ by: number }>(), Reset: data() },
  commands: { Increase: data<{ by: number }>(), Decrease: data<{ by: number }>(), Reset: data() },
  rejections: { BelowZero: data<{ count: number }>() },
}).define({
  handle: {
    Increase: ({ data, emit }) => emit.Increased(data),
    Decrease: ({ state, data, emit, reject }) =>
      state.count < data.by ? reject.BelowZero({ count: state.count }) : emit.Decreased(data),
    Reset: ({ emit }) => emit.Reset(),
  },
  apply: {
    Increased: ({ count }, { by }) => ({ count: count + by }),
    Decreased: ({ count }, { by }) => ({ count: count - by }),
    Reset: () => ({ count: 0 }),
  },
});

// A projection folds the events of all counters into one state for reading.
const Counts = projection("counts", (): Record<string, number> => ({})).on(Counter, {
  Increased: (counts, { id, data }) => ({ ...counts, [id]: (counts[id] ?? 0) + data.by }),
  Decreased: (counts, { id, data }) => ({ ...counts, [id]: (counts[id] ?? 0) - data.by }),
  Reset: (counts, { id }) => ({ ...counts, [id]: 0 }),
});

// A process manager reacts to events with commands. The store delivers each of them exactly once.
const CountResets = processManager("count-resets", { dispatches: [Counter] }).on(Counter, {
  Reset: () => ({ dispatch: Counter.at("resets").Increase({ by: 1 }) }),
});

const directory = process.argv[2] ?? "data/counter";
const store = await AggregateStore.builder(directory)
  .aggregate(Counter)
  .projection(Counts)
  .processManager(CountResets)
  .open();
console.log(`The store is in ${directory}.\n`);

console.log("A handle sends commands to one instance:");
const apples = store.get(Counter, "apples");
const increased = await apples.execute(Counter.commands.Increase({ by: 3 }));
console.log(`  apples: Increase by 3 → ${increased.state.count}, version ${increased.version}`);

console.log("A rejection is a value. It writes nothing:");
const refused = await apples.try(Counter.commands.Decrease({ by: 1000 }));
console.log(`  apples: Decrease by 1000 → ${refused.ok ? refused.state.count : refused.rejection.type}`);

console.log("The bus finds the aggregate by the type of the command, and calls its middleware:");
const bus = new CommandBus(store).register(Counter).use((envelope, next) => {
  console.log(`  ${envelope.id}: ${envelope.command.type}`);
  return next(envelope);
});
await bus.dispatch("pears", { type: "Increase", data: { by: 5 } });
await bus.dispatch("plums", { type: "Increase", data: { by: 7 } });
await bus.dispatch(Counter.at("pears").Reset());

console.log("The process manager has counted the reset, and the projection has seen everything:");
await store.runProcessManagers();
for (const [id, count] of Object.entries(await store.projection(Counts))) console.log(`  ${id}: ${count}`);

console.log("\nRun it again: the counters continue from here.");
await store.close();
