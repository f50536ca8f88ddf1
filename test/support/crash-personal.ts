import { aggregate, AggregateStore, data, processManager, projection, type RecordedEvent } from "eventfold-es";
import {
  checkEvents,
  checkStoreFiles,
  type CrashRemains,
  type CrashScenario,
  type CrashWorld,
  type FileSystem,
  nameOf,
  type SimulatedDisk,
  type SimulatedProcess,
} from "eventfold-es/testing";
import { nextEventId } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

const GONE = "gone";

/** Says something of a person. Each text is said once. */
const Diary = aggregate("diary", {
  initial: { texts: [] as string[] },
  events: {
    Said: data<{ person: string; text: string }>().personal("person", { person: GONE, text: GONE }),
  },
  commands: { Say: data<{ person: string; text: string }>() },
}).define({
  handle: { Say: ({ data: said, emit }) => emit.Said(said) },
  apply: { Said: ({ texts }, { text }) => ({ texts: [...texts, text] }) },
  snapshotEvery: 2,
});

/** Has one event for each of the diary. */
const Echo = aggregate("echo", {
  initial: { texts: [] as string[] },
  events: { Heard: data<{ person: string; text: string }>().personal("person", { person: GONE, text: GONE }) },
  commands: { Hear: data<{ person: string; text: string }>() },
}).define({
  handle: { Hear: ({ data: heard, emit }) => emit.Heard(heard) },
  apply: { Heard: ({ texts }, { text }) => ({ texts: [...texts, text] }) },
});

const Repeater = processManager("repeater", { dispatches: [Echo], initial: { last: "" } }).on(Diary, {
  Said: (_, { data: said }) => ({ state: { last: said.text }, dispatch: Echo.at("all").Hear(said) }),
});

const Texts = projection("texts", () => ({ texts: [] as string[] })).on(Diary, {
  Said: (state, { data: { text } }) => void state.texts.push(text),
});

function openStore(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Diary)
    .aggregate(Echo)
    .projection(Texts)
    .processManager(Repeater)
    .processManagerMode("manual")
    .fileSystem(fileSystem)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

type Store = Awaited<ReturnType<typeof openStore>>;
type World = CrashWorld<Store>;
export type PersonalScenario = CrashScenario<Store>;

/** What a tracked commit was to do. */
type Action = { readonly kind: "say" | "forget"; readonly person: string };

function say(world: World, actions: Map<string, Action>, person: string, store: Store = world.store): Promise<unknown> {
  return world.commit((context) => {
    actions.set(context.correlationId, { kind: "say", person });
    // A text that is nowhere else: a search for it must find nothing.
    const text = `secret of ${context.correlationId}`;
    return store.dispatch(Diary.at(`d-${person.length % 2}`).Say({ person, text }), context);
  });
}

function forget(world: World, actions: Map<string, Action>, person: string, store: Store = world.store) {
  return world.commit((context) => {
    actions.set(context.correlationId, { kind: "forget", person });
    return store.forget(person);
  }, 0);
}

/** The texts of a person who was forgotten for certain are gone, and those of the others are there. */
async function check(
  actions: ReadonlyMap<string, Action>,
  { disk, store, commits }: CrashRemains<Store>,
): Promise<string[]> {
  await store.runProcessManagers();
  const events: RecordedEvent[] = [];
  for await (const event of store.events()) events.push(event);
  const said = events.filter(({ type }) => type === "Said");
  const textOf = (event: RecordedEvent): string => (event.data as { readonly text: string }).text;
  for (const [index, { id, outcome }] of commits.entries()) {
    const action = actions.get(id);
    if (action?.kind !== "say") continue;
    const event = said.find(({ correlationId }) => correlationId === id);
    if (event === undefined) continue;
    const later = commits.slice(index).filter((other) => {
      const { kind, person } = actions.get(other.id) ?? {};
      return kind === "forget" && person === action.person;
    });
    const text = textOf(event);
    if (later.length === 0 && text !== `secret of ${id}`)
      throw new Error(`expected the text of ${nameOf(event)}, of a person who was not forgotten, found ${text}`);
    const isForgotten = outcome === "acknowledged" && later.some((each) => each.outcome === "acknowledged");
    if (isForgotten && text !== GONE)
      throw new Error(`expected nothing of ${nameOf(event)}, of a forgotten person, found ${text}`);
  }
  checkKeys(disk, said);
  const heard = events.filter(({ type }) => type === "Heard").map(textOf);
  if (heard.length !== said.length) throw new Error(`expected ${said.length} echoes, found ${heard.length}`);
  const { texts } = await store.projection(Texts);
  if (texts.join() !== said.map(textOf).join())
    throw new Error(`the projection has ${texts.join()}, the events ${said.map(textOf).join()}`);
  for (const id of await store.list(Diary)) {
    const state = await store.get(Diary, id).state();
    const own = said.filter((event) => event.id === id).map(textOf);
    if (state.texts.join() !== own.join())
      throw new Error(`the state of ${id} has ${state.texts.join()}, its events ${own.join()}`);
  }
  const stored = events.map((event) => ({ ...event, data: { person: GONE, text: GONE } }));
  const seen = stored.map((event) => (event.type === "Said" ? event : { ...event, correlationId: undefined }));
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return seen.map(nameOf);
}

/** No file has a text, and no file has a key of an event that readers get without its text. */
function checkKeys(disk: SimulatedDisk, said: readonly RecordedEvent[]): void {
  const contents = disk
    .files()
    .map((path) => [path, Buffer.from(disk.bytesOf(path) ?? []).toString("latin1")] as const);
  for (const [path, content] of contents)
    if (content.includes("secret of")) throw new Error(`${path} has the text of a person`);
  const lines = contents.filter(([path]) => path.endsWith("/app.jsonl")).flatMap(([, content]) => content.split("\n"));
  const keys = contents.filter(([path]) => path.startsWith("/store/keys/")).map(([, content]) => content);
  for (const { eventId, data: shown } of said) {
    if ((shown as { readonly text: string }).text !== GONE) continue;
    const line = lines.find((each) => each.includes(`"id":"${eventId}"`)) ?? "";
    const [, key = ""] = /"personal":\[\{"keys":\["([^"]+)"/.exec(line) ?? [];
    if (key === "" || keys.some((content) => content.includes(key)))
      throw new Error(`expected the key of ${eventId} to be destroyed, found it`);
  }
}

/** Kills a process that has written a key, before it flushes it. */
async function killAtFlushOfKeys(disk: SimulatedDisk, process: SimulatedProcess): Promise<void> {
  let isKilled = false;
  const stop = disk.failWhen((call) => {
    if (call.process !== process.name || call.operation !== "flush" || !call.path.includes("/keys/")) return undefined;
    isKilled = true;
    process.kill();
    return undefined;
  });
  for (let turns = 0; turns < 400 && !isKilled; turns++) await new Promise<void>((resolve) => setImmediate(resolve));
  process.kill();
  stop();
}

/** Persons are forgotten while others are written about, in several processes, some of which are killed. */
export function personalScenario(n: number): PersonalScenario {
  const actions = new Map<string, Action>();
  return {
    open: openStore,
    check: (remains) => check(actions, remains),
    goOn: async (world) => {
      await Promise.all([say(world, actions, "p-1"), say(world, actions, "p-22")]);
      await forget(world, actions, "p-1");
      await say(world, actions, "p-1");
    },
    workload: async (world) => {
      await Promise.all([say(world, actions, "p-1"), say(world, actions, "p-22"), say(world, actions, "p-22")]);
      await world.store.projection(Texts);
      await world.store.runProcessManagers();
      const second = await world.open();
      // The second process knows the text, and must not any more when the first one has forgotten the person.
      await second.store.get(Diary, "d-1").state();
      await Promise.all([forget(world, actions, "p-1"), say(world, actions, "p-22", second.store)]);
      const { texts } = await second.store.get(Diary, "d-1").state();
      if (texts.some((text) => text !== GONE)) throw new Error(`the second process still has ${texts.join()}`);
      // Makes the new key of the caches, so that no later flush is for it.
      await world.store.dropSnapshots(Diary);
      const killed =
        n % 2 === 0
          ? killAfter(world.disk, second.process, 2 + ((n * 7) % 40))
          : killAtFlushOfKeys(world.disk, second.process);
      await Promise.allSettled([
        say(world, actions, "p-333", second.store),
        forget(world, actions, "p-22", second.store),
      ]);
      await killed;
      await say(world, actions, "p-22");
      // In odd variants with the key that the killed process has written.
      await say(world, actions, "p-333");
      await say(world, actions, "p-333");
      if (n % 2 === 0) await forget(world, actions, "p-333");
      await world.store.close();
    },
  };
}
