import { AggregateStore, processManager } from "eventfold-es";
import { Counter } from "./counter.ts";
import { Sink } from "./relay.ts";
import { workerOptions } from "./worker-input.ts";

/** A script of a user. It says "end" after its last statement; what keeps the process alive after that is the store. */
const { directory, script } = workerOptions<{
  readonly directory: string;
  readonly script: "schedule" | "wait" | "dispatch" | "dispatch and close" | "dispatch, idle and close" | "subscribe";
}>();

const Manager = processManager("manager", { dispatches: [Sink] }).on(Counter, {
  Added: (_, e) => ({
    dispatch: [Sink.at("now").Take({ n: e.data.by })],
    schedule: [{ in: e.data.by, dispatch: Sink.at("later").TakeLate({ n: e.data.by }) }],
  }),
  Cleared: (_, e) => ({ dispatch: [Sink.at(e.id).Take({ n: 1 })] }),
});
const store = await AggregateStore.builder(directory).aggregate(Counter).aggregate(Sink).processManager(Manager).open();
if (script === "subscribe") store.subscribe({ aggregates: [Sink] }, () => void store.close());
if (script === "schedule") await store.dispatch(Counter.at("a").Add({ by: 300 }));
else if (script !== "wait") await store.dispatch(Counter.at("a").Clear());
if (script === "dispatch, idle and close") await store.idle();
if (script.endsWith("close")) await store.close();
process.stdout.write("end\n");
