import { checkStoreFiles, type CrashRemains, type CrashScenario, type FileSystem } from "eventfold-es/testing";
import type { Commit, StoredEvent } from "../../src/event-store/event-store.ts";
import { openReplica } from "../../src/file-store/open-replica.ts";
import { commitText, headerText } from "../../src/jetstream/message/batch-message.ts";
import { parsePlace } from "../../src/jetstream/replica/place.ts";
import { Replica } from "../../src/jetstream/replica/replica.ts";
import { collect } from "./collect.ts";
import { killAfter } from "./kill-after.ts";

const MANAGER = "pm";

/** The messages of a stream, which no crash of a replica takes away. */
class Messages {
  readonly texts: string[] = [];
  /** The names of all events, in order. */
  readonly events: string[] = [];
  notes = 0;
  readonly #versions = new Map<string, number>();
  #last: string | null = null;

  /** Adds a message with one commit for each list of ids of streams; an empty list makes a note. */
  add(...commits: readonly (readonly string[])[]): void {
    const position = this.events.length;
    const contents = commits.map((ids) => (ids.length === 0 ? this.#note() : this.#append(ids)));
    const batch = `b${this.texts.length}`;
    const header = headerText({ batch, after: this.#last, position, commits: contents.length });
    this.texts.push(header + contents.map(commitText).join(""));
    this.#last = batch;
  }

  #append(ids: readonly string[]): Commit {
    return {
      appends: ids.map((id) => {
        const expectedVersion = this.#versions.get(id) ?? 0;
        this.#versions.set(id, expectedVersion + 1);
        this.events.push(`${id}@${expectedVersion + 1}:${this.events.length + 1}`);
        const event = { type: "A", data: '{"n":1}', schemaVersion: 0, timestamp: 1_700_000_000_000 };
        return { stream: { type: "s", id }, expectedVersion, events: [event] };
      }),
    };
  }

  #note(): Commit {
    const letter = { key: `k${this.notes}`, letter: { error: "no" } };
    return {
      appends: [],
      consumer: { name: MANAGER, expectedSequence: this.notes++, note: {}, deadLetters: [letter] },
    };
  }
}

class FollowedReplica {
  readonly replica: Replica;
  readonly #messages: Messages;
  readonly #read: () => Promise<StoredEvent[]>;
  readonly #count: () => Promise<number>;

  private constructor(messages: Messages, replica: Replica, store: Awaited<ReturnType<typeof openReplica>>["store"]) {
    this.#messages = messages;
    this.replica = replica;
    this.#read = async () => (await collect(store.readAll())).flat();
    this.#count = async () => (await store.consumerNotes(MANAGER, 0)).length;
  }

  static async open(fileSystem: FileSystem, messages: Messages): Promise<FollowedReplica> {
    const directory = await openReplica("/replicas", fileSystem);
    const replica = await Replica.open(directory, parsePlace(directory.place));
    const followed = new FollowedReplica(messages, replica, directory.store);
    await followed.catchUp();
    await replica.checkWhole();
    return followed;
  }

  async catchUp(): Promise<void> {
    const { texts } = this.#messages;
    for (let next = this.replica.next; next <= texts.length; next++)
      this.replica.take(next, Buffer.from(texts[next - 1] ?? ""));
    if (!(await this.replica.reached(texts.length, 60_000))) throw new Error("the replica did not get all messages");
  }

  events(): Promise<StoredEvent[]> {
    return this.#read();
  }

  notes(): Promise<number> {
    return this.#count();
  }

  close(): Promise<void> {
    return this.replica.close();
  }
}

export type ReplicaScenario = CrashScenario<FollowedReplica>;

/** A replica that follows a stream with events and notes: closed and opened again, and killed while it applies messages. */
export function replicasScenario(n: number): ReplicaScenario {
  const messages = new Messages();
  return {
    open: (fileSystem) => FollowedReplica.open(fileSystem, messages),
    async check({ disk, store }: CrashRemains<FollowedReplica>) {
      const events = await store.events();
      const found = events.map(({ stream, version, position }) => `${stream.id}@${version}:${position}`);
      if (found.join() !== messages.events.join())
        throw new Error(`events: ${found.join()}; expected ${messages.events.join()}`);
      const notes = await store.notes();
      if (notes !== messages.notes) throw new Error(`${notes} notes; expected ${messages.notes}`);
      const seen = events.map(({ stream: { type: aggregate, id }, version, position, type, data }) => ({
        ...{ aggregate, id, version, position, type, data },
      }));
      checkStoreFiles(disk, "/replicas/1", seen);
    },
    workload: async (world) => {
      const { store: first } = world;
      messages.add(["a"], ["b", "c"]);
      messages.add([]);
      await first.catchUp();
      await first.close();
      const { store: second } = await world.open();
      for (let i = 0; i < 3; i++) {
        messages.add([]);
        await second.catchUp();
      }
      messages.add(["a"], [], ["a", "d"]);
      await second.catchUp();
      await second.close();
      const { store: third, process } = await world.open();
      const killed = killAfter(world.disk, process, 3 + ((n * 17) % 40));
      for (let i = 0; i < 4; i++) messages.add(["b"], [], ["e"]);
      const caughtUp = third.catchUp().catch(() => {});
      await killed;
      void third.close().catch(() => {});
      await caughtUp;
      const { store: last } = await world.open();
      messages.add([]);
      await last.catchUp();
      await last.close();
    },
  };
}
