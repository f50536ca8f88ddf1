import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import fc from "fast-check";
import { expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

interface Said {
  readonly person: string;
  readonly name: string;
  readonly place: { readonly street: string };
  readonly tags: readonly string[];
  readonly score: number;
  readonly open: string;
}

const PLACEHOLDERS = { person: "-", name: "", "place.street": "?", "tags[]": "-", score: -1 } as const;
type Field = keyof typeof PLACEHOLDERS;

/** A model: which fields are personal, how their person is named, and what a process manager does with them. */
const model = fc.record({
  fields: fc.subarray(Object.keys(PLACEHOLDERS) as Field[], { minLength: 1 }),
  byFunction: fc.boolean(),
  snapshotEvery: fc.integer({ min: 1, max: 3 }),
  reaction: fc.constantFrom("nothing", "send", "schedule", "fail"),
});
type Model = typeof model extends fc.Arbitrary<infer T> ? T : never;

const PERSONS = ["person-ada-lovelace", "person-größe-🦀", "person-bob"] as const;
const INSTANCES = ["a", "b"] as const;

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("say" as const),
      person: fc.constantFrom(...PERSONS),
      id: fc.constantFrom(...INSTANCES),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("forget" as const), person: fc.constantFrom(...PERSONS) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("run" as const, "read" as const, "reopen" as const, "later" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("backup" as const, "export" as const) }) },
);

function definitions({ fields, byFunction, snapshotEvery, reaction }: Model) {
  const placeholders = Object.fromEntries(fields.map((field) => [field, PLACEHOLDERS[field]])) as typeof PLACEHOLDERS;
  const said = () => data<Said>().personal(byFunction ? ({ person }) => person : "person", placeholders);
  const Diary = aggregate("diary", {
    initial: { all: [] as Said[] },
    events: { Said: said() },
    commands: { Say: data<Said>() },
  }).define({
    handle: { Say: ({ data: given, emit }) => emit.Said(given) },
    apply: { Said: ({ all }, given) => ({ all: [...all, given] }) },
    snapshotEvery,
  });
  const Echo = aggregate("echo", {
    initial: { all: [] as Said[] },
    events: { Heard: said() },
    commands: { Hear: data<Said>(), Refuse: data<Said>() },
    rejections: { Refused: data<Said>() },
  }).define({
    handle: {
      Hear: ({ data: given, emit }) => emit.Heard(given),
      Refuse: ({ data: given, reject }) => reject.Refused(given),
    },
    apply: { Heard: ({ all }, given) => ({ all: [...all, given] }) },
    snapshotEvery,
  });
  const All = projection("all", () => ({ all: [] as Said[] })).on(Diary, {
    Said: (state, event) => void state.all.push(event.data),
  });
  const Repeater = processManager("repeater", { dispatches: [Echo], initial: () => ({ last: [] as Said[] }) }).on(
    Diary,
    {
      Said: (state, event) => {
        const { last } = state as { last: Said[] };
        last.push(event.data);
        const remembered = last.at(-2) ?? event.data;
        if (reaction === "send") return { state, dispatch: Echo.at("e").Hear(event.data) };
        if (reaction === "fail") return { state, dispatch: Echo.at("e").Refuse(remembered) };
        if (reaction === "schedule")
          return { state, schedule: [{ in: "1h", dispatch: Echo.at("e").Hear(remembered) }] };
        return { state };
      },
    },
  );
  return { Diary, Echo, All, Repeater };
}

function bytesOf(directory: string): Buffer {
  const files = fs.readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Buffer.concat(files.map((entry) => fs.readFileSync(path.join(entry.parentPath, entry.name))));
}

test("nothing of a forgotten person is in a store, its backups and its exports, and the others are there", async () => {
  let lastSecret = 0;
  await fc.assert(
    fc.asyncProperty(model, fc.array(step, { minLength: 3, maxLength: 16 }), async (given, steps) => {
      const directory = temporaryDirectory();
      const { Diary, Echo, All, Repeater } = definitions(given);
      let now = 1_800_000_000_000;
      const open = () =>
        AggregateStore.builder(directory)
          .aggregate(Diary)
          .aggregate(Echo)
          .projection(All)
          .processManager(Repeater)
          .processManagerMode("manual")
          .clock(() => now)
          .open();
      let store = await open();
      const written: { readonly given: Said; readonly secrets: readonly string[]; isForgotten: boolean }[] = [];
      const copies: string[] = [];
      const isPersonal = (field: Field): boolean => given.fields.includes(field);
      for (const next of steps) {
        if (next.kind === "say") {
          const { person, id } = next;
          const secret = (field: Field): string =>
            isPersonal(field) ? `secret-${++lastSecret}-${field}` : "everybody knows";
          const said: Said = {
            person,
            name: secret("name"),
            place: { street: secret("place.street") },
            tags: [secret("tags[]"), secret("tags[]")],
            score: isPersonal("score") ? 7_000_000_000_000 + ++lastSecret : 1,
            open: "everybody knows",
          };
          const secrets = [said.name, said.place.street, ...said.tags, String(said.score)].filter(
            (text) => text.length > 5 && text !== "everybody knows",
          );
          await store.dispatch(Diary.at(id).Say(said));
          written.push({ given: said, secrets, isForgotten: false });
        } else if (next.kind === "forget") {
          await store.forget(next.person);
          for (const each of written) if (each.given.person === next.person) each.isForgotten = true;
        } else if (next.kind === "run") await store.runProcessManagers();
        else if (next.kind === "read") await store.projection(All);
        else if (next.kind === "later") now += 3_600_000;
        else if (next.kind === "backup") {
          const target = path.join(temporaryDirectory(), "copy");
          await store.backup(target);
          copies.push(bytesOf(target).toString("latin1"));
        } else if (next.kind === "export")
          copies.push(Buffer.from((await collect(store.export())).join("\n")).toString("latin1"));
        else {
          await store.close();
          store = await open();
        }
      }
      const expected = written.map(({ given: said, isForgotten }) => {
        if (!isForgotten) return said;
        return {
          person: isPersonal("person") ? "-" : said.person,
          name: isPersonal("name") ? "" : said.name,
          place: { street: isPersonal("place.street") ? "?" : said.place.street },
          tags: isPersonal("tags[]") ? ["-", "-"] : said.tags,
          score: isPersonal("score") ? -1 : said.score,
          open: said.open,
        };
      });
      const check = async (): Promise<void> => {
        expect((await store.projection(All)).all).toEqual(expected);
        const states = await Promise.all(INSTANCES.map((id) => store.get(Diary, id).state()));
        expect(
          states
            .flatMap(({ all }) => all)
            .map((said) => JSON.stringify(said))
            .sort(),
        ).toEqual(expected.map((said) => JSON.stringify(said)).sort());
        await store.runProcessManagers();
        await store.get(Echo, "e").state();
      };
      await check();
      await store.close();
      store = await open();
      await check();
      await store.close();
      // No file has a secret in plain text, whether its person is forgotten or not; a forgotten person's id is nowhere.
      const places = [bytesOf(directory).toString("latin1"), ...copies];
      for (const { secrets } of written)
        for (const secret of secrets) for (const place of places) expect(place.includes(secret)).toBe(false);
      if (isPersonal("person"))
        for (const person of PERSONS) {
          const own = written.filter(({ given: said }) => said.person === person);
          const text = Buffer.from(person).toString("latin1");
          for (const copy of copies) expect(copy.includes(text)).toBe(false);
          if (own.every(({ isForgotten }) => isForgotten)) expect(places[0]?.includes(text)).toBe(false);
        }
      // Without any cache, everything is the same.
      for (const cache of ["projections", "process_managers", "aggregates"])
        for (const entry of fs.readdirSync(directory, { recursive: true, withFileTypes: true }))
          if (entry.name === "checkpoint.eventfold.json" && entry.parentPath.includes(`/${cache}/`))
            fs.rmSync(path.join(entry.parentPath, entry.name));
      store = await open();
      await check();
      await store.close();
    }),
    { numRuns: 25 },
  );
}, 120_000);
