import * as fs from "node:fs";
import * as path from "node:path";
import {
  aggregate,
  AggregateStore,
  data,
  memory,
  restore,
  type StandardSchema,
  type SubjectKey,
  type SubjectKeys,
} from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { allLines, logSegments, streamFile } from "../support/store-files.ts";
import { copyOf, temporaryDirectory } from "../support/temporary-directory.ts";

interface Profile {
  readonly person: string;
  readonly age: number;
  readonly isAdult: boolean;
  readonly nothing: null;
  readonly tags: readonly string[];
  readonly contacts: readonly { readonly kind: string; readonly email?: string; readonly codes: readonly number[] }[];
  readonly deep: { readonly a: { readonly b: { readonly c: string } } };
  readonly nickname?: string;
}

const Profiles = aggregate("profile", {
  initial: { seen: 0 },
  events: {
    Filled: data<Profile>().personal("person", {
      person: "-",
      age: 0,
      isAdult: false,
      nothing: null,
      tags: [],
      "contacts[].email": "-",
      "contacts[].codes[]": -1,
      "deep.a.b.c": "",
      nickname: "-",
    }),
    Listed: data<readonly { readonly name: string; readonly n: number }[]>().personal((_, id) => id, {
      "[].name": "-",
    }),
    Written: data<{ readonly text: string }>().personal((_, id) => `of ${id}`, { text: "" }),
  },
  commands: {
    Fill: data<Profile>(),
    List: data<readonly { readonly name: string; readonly n: number }[]>(),
    Write: data<{ readonly text: string }>(),
  },
}).define({
  handle: {
    Fill: ({ data: given, emit }) => emit.Filled(given),
    List: ({ data: given, emit }) => emit.Listed(given),
    Write: ({ data: given, emit }) => emit.Written(given),
  },
  apply: { Filled: count, Listed: count, Written: count },
});

function count({ seen }: { readonly seen: number }): { seen: number } {
  return { seen: seen + 1 };
}

const profile: Profile = {
  person: "p-1",
  age: 36,
  isAdult: true,
  nothing: null,
  tags: ["a", "ü\u0000😀"],
  contacts: [
    { kind: "home", email: "ada@example.org", codes: [1, 2] },
    { kind: "work", codes: [] },
  ],
  deep: { a: { b: { c: "deep secret" } } },
};
const forgotten = {
  person: "-",
  age: 0,
  isAdult: false,
  nothing: null,
  tags: [],
  contacts: [
    { kind: "home", email: "-", codes: [-1, -1] },
    { kind: "work", codes: [] },
  ],
  deep: { a: { b: { c: "" } } },
};

const open = (directory: string) => AggregateStore.builder(directory).aggregate(Profiles).open();
const { Fill, List, Write } = Profiles.commands;
const dataOf = async (store: AggregateStore<typeof Profiles>, id: string) =>
  (await collect(store.readEvents("profile", id))).map((event) => event.data);

describe("personal fields", () => {
  test("of all kinds come back as they were, and then as their placeholders", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Profiles, "x").execute(Fill(profile));
    await store.get(Profiles, "p-2").execute(
      List([
        { name: "Eve", n: 1 },
        { name: "", n: 2 },
      ]),
    );
    await store.get(Profiles, "p-3").execute(Write({ text: "x".repeat(3_000_000) }));
    expect(await dataOf(store, "x")).toEqual([profile]);
    await store.close();
    const again = await open(directory);
    expect(await dataOf(again, "x")).toEqual([profile]);
    expect(await dataOf(again, "p-2")).toEqual([
      [
        { name: "Eve", n: 1 },
        { name: "", n: 2 },
      ],
    ]);
    expect(await dataOf(again, "p-3")).toEqual([{ text: "x".repeat(3_000_000) }]);
    for (const subject of ["p-1", "p-2", "of p-3"]) expect(await again.forget(subject)).toBe(true);
    expect(await dataOf(again, "x")).toEqual([forgotten]);
    expect(await dataOf(again, "p-2")).toEqual([
      [
        { name: "-", n: 1 },
        { name: "-", n: 2 },
      ],
    ]);
    expect(await dataOf(again, "p-3")).toEqual([{ text: "" }]);
    await again.close();
    expect((await verify(directory)).clean).toBe(true);
  });

  test("need a subject, and events without personal fields do not", async () => {
    const store = await open(temporaryDirectory());
    const instance = store.get(Profiles, "x");
    await expect(instance.execute(Fill({ ...profile, person: "" }))).rejects.toMatchObject({ code: "INVALID_PAYLOAD" });
    // The next command is not held up by the one that failed.
    await instance.execute(Fill(profile));
    await instance.execute(List([]));
    expect((await instance.state()).seen).toBe(2);
    await store.close();
  });

  test("a failed event fails the commands that were decided on it, and no other", async () => {
    const store = await open(temporaryDirectory());
    const instance = store.get(Profiles, "x");
    const results = await Promise.allSettled([
      instance.execute(Fill(profile)),
      instance.execute(Fill({ ...profile, person: "" })),
      instance.execute(Fill(profile)),
      store.dispatch(Profiles.at("y").Fill(profile)),
    ]);
    expect(results.map(({ status }) => status).filter((status) => status === "rejected").length).toBeLessThanOrEqual(2);
    expect(results[1]?.status).toBe("rejected");
    expect(results[3]?.status).toBe("fulfilled");
    expect((await instance.state()).seen).toBe((await collect(instance.events())).length);
    await store.close();
  });

  test("that were moved to another event are not read", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    for (const text of ["one", "two"]) await store.get(Profiles, "x").execute(Write({ text }));
    await store.close();
    const lines = allLines(directory).map(({ line }) => line);
    const boxes = lines.map(({ meta }) => /"box":"([^"]+)"/.exec(JSON.stringify(meta))?.[1] ?? "");
    // Each is as long as the other, so that a swap keeps all lengths. The log is read again, and only its text changes.
    const swap = (file: string): void => {
      const text = fs.readFileSync(file, "latin1");
      const [one = "", two = ""] = boxes;
      fs.writeFileSync(file, text.replace(one, "#").replace(two, one).replace("#", two), "latin1");
    };
    swap(streamFile(directory, "profile", "x"));
    // Without the log, the streams are the truth.
    for (const segment of logSegments(directory)) fs.rmSync(segment);
    fs.rmSync(path.join(directory, "meta"), { recursive: true });
    const again = await open(directory);
    await expect(dataOf(again, "x")).rejects.toMatchObject({ code: "PERSONAL_DATA_DAMAGED" });
    expect(await again.forget("of x")).toBe(true);
    expect(await dataOf(again, "x")).toEqual([{ text: "" }, { text: "" }]);
    await again.close();
  });

  test("have one key for each person, also if several stores begin at the same time", async () => {
    const directory = temporaryDirectory();
    const stores = await Promise.all([1, 2, 3].map(() => open(directory)));
    await Promise.all(
      stores.map((store, n) => store.get(Profiles, `i-${n}`).execute(Fill({ ...profile, nickname: `n-${n}` }))),
    );
    expect((await stores[0]?.status())?.subjects).toBe(1);
    for (const store of stores)
      for (const n of [0, 1, 2]) expect(await dataOf(store, `i-${n}`)).toEqual([{ ...profile, nickname: `n-${n}` }]);
    await Promise.all(stores.map((store) => store.close()));
  });

  test("are placeholders in a backup without keys, and plain in one with keys", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Profiles, "x").execute(Fill(profile));
    const [without, withKeys] = [`${temporaryDirectory()}/a`, `${temporaryDirectory()}/b`];
    await store.backup(without);
    await store.backup(withKeys, { keys: true });
    expect(fs.existsSync(path.join(without, "keys"))).toBe(false);
    expect(fs.statSync(path.join(withKeys, "keys/subjects.jsonl")).mode & 0o077).toBe(0);
    const restored = `${temporaryDirectory()}/c`;
    await restore(withKeys, restored, { keys: true });
    for (const [copy, expected] of [
      [without, forgotten],
      [withKeys, profile],
      [restored, profile],
    ] as const) {
      const opened = await open(copy);
      expect(await dataOf(opened, "x")).toEqual([expected]);
      expect((await opened.get(Profiles, "x").state()).seen).toBe(1);
      await opened.close();
    }
    await store.forget("p-1");
    await store.backup(withKeys, { keys: true, incremental: true });
    const opened = await open(withKeys);
    expect(await dataOf(opened, "x")).toEqual([forgotten]);
    await opened.close();
    await store.close();
  });

  test("are encrypted in an export, and stay so through an import", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Profiles, "x").execute(Fill(profile));
    await store.get(Profiles, "p-2").execute(Write({ text: "other secret" }));
    const lines = await collect(store.export());
    expect(lines.join("\n")).not.toContain("secret");
    expect(lines.join("\n")).not.toContain("ada@");
    const keys = new SharedKeys();
    const other = await AggregateStore.builder(memory()).aggregate(Profiles).keys(keys).open();
    await other.import(lines);
    expect(await dataOf(other, "x")).toEqual([forgotten]);
    await other.close();
    // Back to a directory that gets the keys.
    const target = temporaryDirectory();
    fs.cpSync(path.join(directory, "keys"), path.join(target, "keys"), { recursive: true });
    const third = await open(target);
    await third.import(lines);
    expect(await dataOf(third, "x")).toEqual([profile]);
    await third.forget("p-1");
    expect(await dataOf(third, "x")).toEqual([forgotten]);
    // The next export tells of it.
    const fourth = await AggregateStore.builder(memory()).aggregate(Profiles).open();
    await fourth.import(await collect(third.export()));
    expect(await dataOf(fourth, "x")).toEqual([forgotten]);
    await Promise.all([store, third, fourth].map((each) => each.close()));
  });

  test("of an older export are encrypted when it is imported", async () => {
    const Plain = aggregate("profile", {
      initial: { seen: 0 },
      events: { Written: data<{ readonly text: string }>() },
      commands: { Write: data<{ readonly text: string }>() },
    }).define({ handle: { Write: ({ data: given, emit }) => emit.Written(given) }, apply: { Written: count } });
    const before = await AggregateStore.builder(temporaryDirectory()).aggregate(Plain).open();
    await before.dispatch(Plain.at("x").Write({ text: "old secret" }));
    const lines = await collect(before.export());
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.import(lines);
    expect(await dataOf(store, "x")).toEqual([{ text: "old secret" }]);
    expect(fs.readFileSync(streamFile(directory, "profile", "x"), "utf8")).not.toContain("secret");
    await store.forget("of x");
    expect(await dataOf(store, "x")).toEqual([{ text: "" }]);
    await Promise.all([before.close(), store.close()]);
  });

  test("are read by a program without their contract, and by one that only reads", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Profiles, "x").execute(Fill(profile));
    const unaware = await AggregateStore.open(directory);
    const reading = await AggregateStore.builder(directory).aggregate(Profiles).readOnly().open();
    const read = async (from: { events(): AsyncIterable<{ readonly data?: unknown }> }) =>
      (await collect(from.events())).map((event) => event.data);
    expect(await read(unaware)).toEqual([profile]);
    expect(await read(reading)).toEqual([profile]);
    await expect(reading.forget("p-1")).rejects.toMatchObject({ code: "READ_ONLY" });
    await store.forget("p-1");
    expect(await read(unaware)).toEqual([forgotten]);
    expect(await read(reading)).toEqual([forgotten]);
    await Promise.all([store, unaware, reading].map((each) => each.close()));
  });

  test("cannot be declared by an aggregate that is registered late", async () => {
    const store = await AggregateStore.open(memory());
    expect(() => store.get(Profiles as never, "x")).toThrow(/registered before the store is opened/);
    await store.close();
  });
});

test("old shapes are decrypted before their steps, and the newest shape is encrypted", async () => {
  const make = (isNew: boolean) => {
    const old = data<{ name: string }>().personal((_, id) => id, { name: "- -" });
    const split = (name: string) => ({ first: name.split(" ")[0] ?? "", last: name.split(" ")[1] ?? "" });
    const payload = old
      .to<{ first: string; last: string }>(({ name }) => split(name))
      .personal((_, id) => id, { first: "(none)", last: "(none)" });
    const events = isNew ? { Named: payload } : { Named: old };
    return aggregate("person", {
      initial: { log: [] as string[] },
      events: events as { Named: typeof payload },
      commands: { Name: data<{ first: string; last: string }>() },
    }).define({
      handle: {
        Name: ({ data: given, emit }) =>
          emit.Named((isNew ? given : { name: `${given.first} ${given.last}` }) as typeof given),
      },
      apply: { Named: ({ log }, named) => ({ log: [...log, JSON.stringify(named)] }) },
    });
  };
  const storage = memory();
  const [Old, New] = [make(false), make(true)];
  const before = await AggregateStore.builder(storage).aggregate(Old).open();
  await before.dispatch(Old.at("p").Name({ first: "Ada", last: "L" }));
  await before.close();
  const store = await AggregateStore.builder(storage).aggregate(New).open();
  await store.dispatch(New.at("p").Name({ first: "Ada", last: "King" }));
  expect((await store.get(New, "p").state()).log).toEqual([
    '{"first":"Ada","last":"L"}',
    '{"first":"Ada","last":"King"}',
  ]);
  await store.forget("p");
  expect((await store.get(New, "p").state()).log).toEqual([
    '{"first":"-","last":"-"}',
    '{"first":"(none)","last":"(none)"}',
  ]);
  const changes = await store.get(New, "p").diff(1, 2);
  expect(changes.length).toBeGreaterThan(0);
  expect((await store.get(New, "p").state({ version: 1 })).log).toEqual(['{"first":"-","last":"-"}']);
  expect(await store.get(New, "p").explain("log")).toHaveLength(2);
  await store.close();
});

test("placeholders that the schema refuses fail the command, before anything is written", async () => {
  const email: StandardSchema<{ email: string }> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) =>
        (value as { email: string }).email.includes("@")
          ? { value: value as { email: string } }
          : { issues: [{ message: "not an address", path: ["email"] }] },
    },
  };
  const Mail = aggregate("mail", {
    initial: 0,
    events: { Set: data(email).personal((_, id) => id, { email: "gone" }) },
    commands: { Set: data<{ email: string }>() },
  }).define({ handle: { Set: ({ data: given, emit }) => emit.Set(given) }, apply: { Set: (n) => n + 1 } });
  const store = await AggregateStore.builder(memory()).aggregate(Mail).open();
  await expect(store.dispatch(Mail.at("x").Set({ email: "a@b" }))).rejects.toMatchObject({
    code: "INVALID_DEFINITION",
    message: expect.stringContaining("email: not an address") as string,
  });
  expect(await store.head()).toBe(0);
  await store.close();
});

test("rejections and schedules that declare personal fields are encrypted, and forgotten", async () => {
  const Door = aggregate("door", {
    initial: 0,
    events: { Opened: data() },
    commands: { Open: data<{ who: string }>().personal("who", { who: "-" }) },
    rejections: { Locked: data<{ who: string }>().personal("who", { who: "-" }) },
  }).define({
    handle: { Open: ({ data: given, reject }) => reject.Locked(given) },
    apply: { Opened: (n) => n + 1 },
  });
  const directory = temporaryDirectory();
  const open = () => AggregateStore.builder(directory).aggregate(Door).open();
  const store = await open();
  const who = "visitor-4711";
  const once = { idempotencyKey: "k", remember: "all" } as const;
  const door = store.get(Door, "d");
  await expect(door.execute(Door.commands.Open({ who }), once)).rejects.toMatchObject({ rejection: { data: { who } } });
  await store.schedule(Door.at("d").Open({ who }), { in: "5h", key: "later" });
  await store.schedule(Door.at("d").Open({ who: "other" }), { in: "6h", key: "others" });
  const bytes = (): string =>
    fs
      .readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== "subjects.jsonl")
      .map((entry) => fs.readFileSync(path.join(entry.parentPath, entry.name), "latin1"))
      .join("\n");
  expect(bytes()).not.toContain(who);
  await store.close();
  const again = await open();
  expect((await again.schedules()).map(({ envelope }) => envelope.command.data)).toEqual([{ who }, { who: "other" }]);
  expect(await again.get(Door, "d").try(Door.commands.Open({ who }), once)).toMatchObject({
    rejection: { data: { who } },
  });
  await again.forget(who);
  expect((await again.schedules()).map(({ key }) => key)).toEqual(["others"]);
  expect(await again.get(Door, "d").try(Door.commands.Open({ who }), once)).toMatchObject({
    rejection: { data: { who: "-" } },
  });
  await again.close();
});

test("the file of the keys: a torn end is cut off, other damage is an error, and verify finds it", async () => {
  const directory = temporaryDirectory();
  const store = await open(directory);
  await store.get(Profiles, "a").execute(Write({ text: "one" }));
  await store.get(Profiles, "b").execute(Write({ text: "two" }));
  await store.close();
  const torn = copyOf(directory);
  fs.appendFileSync(path.join(torn, "keys/subjects.jsonl"), '{"keys":[{"subject":"x"\u0000\u0000');
  const recovered = await open(torn);
  expect(await dataOf(recovered, "a")).toEqual([{ text: "one" }]);
  await recovered.get(Profiles, "c").execute(Write({ text: "three" }));
  await recovered.close();
  const reopened = await open(torn);
  expect(await dataOf(reopened, "c")).toEqual([{ text: "three" }]);
  await reopened.close();
  const file = path.join(directory, "keys/subjects.jsonl");
  const bytes = fs.readFileSync(file);
  bytes[30] = (bytes[30] ?? 0) ^ 1;
  fs.writeFileSync(file, bytes);
  const damaged = await open(directory);
  await expect(dataOf(damaged, "a")).rejects.toMatchObject({ code: "CORRUPT_KEYS", line: 1 });
  await expect(damaged.get(Profiles, "c").execute(Write({ text: "x" }))).rejects.toMatchObject({
    code: "CORRUPT_KEYS",
  });
  await damaged.close();
  expect((await verify(directory)).findings.map(({ kind }) => kind)).toContain("keys-damaged");
});

/** A place of keys as a program may bring it. */
class SharedKeys implements SubjectKeys {
  readonly kept = new Map<string, SubjectKey>();
  isDown = false;

  async obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>> {
    this.#check();
    for (const subject of subjects) if (!this.kept.has(subject)) this.kept.set(subject, create());
    return new Map(subjects.map((subject) => [subject, this.kept.get(subject) as SubjectKey]));
  }

  async find(subject: string): Promise<SubjectKey | undefined> {
    return this.kept.get(subject);
  }

  async withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    this.#check();
    return new Map([...this.kept.values()].filter(({ id }) => ids.includes(id)).map(({ id, key }) => [id, key]));
  }

  async destroy(ids: readonly string[]): Promise<void> {
    for (const [subject, { id }] of this.kept) if (ids.includes(id)) this.kept.delete(subject);
  }

  async count(): Promise<number> {
    return this.kept.size;
  }

  #check(): void {
    if (this.isDown) throw new Error("the keychain is locked");
  }
}

test("keys can be kept elsewhere; while their place is down, reads and commands fail and nothing is lost", async () => {
  const directory = temporaryDirectory();
  const keys = new SharedKeys();
  const openWith = () => AggregateStore.builder(directory).aggregate(Profiles).keys(keys).open();
  const store = await openWith();
  await store.get(Profiles, "a").execute(Write({ text: "one" }));
  await store.close();
  expect(fs.existsSync(path.join(directory, "keys"))).toBe(false);
  const again = await openWith();
  keys.isDown = true;
  await expect(dataOf(again, "a")).rejects.toThrow("the keychain is locked");
  await expect(again.get(Profiles, "b").execute(Write({ text: "two" }))).rejects.toThrow("the keychain is locked");
  keys.isDown = false;
  expect(await dataOf(again, "a")).toEqual([{ text: "one" }]);
  await again.get(Profiles, "b").execute(Write({ text: "two" }));
  const before = new Map(keys.kept);
  expect(await again.forget("of a")).toBe(true);
  expect(await dataOf(again, "a")).toEqual([{ text: "" }]);
  expect(await dataOf(again, "b")).toEqual([{ text: "two" }]);
  await again.close();
  expect(() => AggregateStore.builder(directory).keys({} as SubjectKeys)).toThrow(/the method obtain/);
  // Keys that come back, from an old copy of their place, are forgotten all the same.
  for (const [subject, key] of before) keys.kept.set(subject, key);
  const third = await openWith();
  expect(await dataOf(third, "a")).toEqual([{ text: "" }]);
  expect(keys.kept.has("of a")).toBe(false);
  await third.close();
});
