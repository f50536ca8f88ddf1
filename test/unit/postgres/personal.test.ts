import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import { expect, test } from "vitest";
import { collect } from "../../support/collect.ts";
import { describePostgres } from "../../support/postgres.ts";

const Person = aggregate("person", {
  initial: { names: [] as string[] },
  events: { Named: data<{ person: string; name: string }>().personal("person", { person: "-", name: "-" }) },
  commands: { Name: data<{ person: string; name: string }>(), Refuse: data<{ person: string; name: string }>() },
  rejections: { Refused: data<{ person: string; name: string }>() },
}).define({
  handle: {
    Name: ({ data: given, emit }) => emit.Named(given),
    Refuse: ({ data: given, reject }) => reject.Refused(given),
  },
  apply: { Named: ({ names }, { name }) => ({ names: [...names, name] }) },
  snapshotEvery: 1,
});
const Names = projection("names", () => ({ names: [] as string[] })).on(Person, {
  Named: (state, { data: { name } }) => void state.names.push(name),
});
const Refuser = processManager("refuser", { dispatches: [Person], initial: {} }).on(Person, {
  Named: (_, { id, data: given }) => ({
    dispatch: Person.at(id).Refuse(given),
    schedule: id === "later" ? [] : [{ in: "1h", dispatch: Person.at("later").Name(given) }],
  }),
});
const { Name } = Person.commands;

describePostgres("personal fields in PostgreSQL", ({ pool, schema }) => {
  test("are forgotten for all processes, and no table has them", async () => {
    const [shared, name] = [pool({ max: 20 }), schema()];
    const open = () =>
      AggregateStore.builder(postgres({ pool: shared, schema: name }))
        .aggregate(Person)
        .projection(Names)
        .processManager(Refuser)
        .processManagerMode("manual")
        .open();
    const [a, b] = [await open(), await open()];
    // Also a subject that PostgreSQL cannot store as it is.
    const strange = "p\u0000\u0001ü";
    await Promise.all([
      a.get(Person, "1").execute(Name({ person: "p-ada", name: "Ada Lovelace" })),
      b.get(Person, "2").execute(Name({ person: "p-bob", name: "Bob" })),
      b.get(Person, "3").execute(Name({ person: strange, name: "Eve" })),
    ]);
    await a.runProcessManagers();
    expect((await b.projection(Names)).names.toSorted()).toEqual(["Ada Lovelace", "Bob", "Eve"]);
    expect((await b.get(Person, "1").state()).names).toEqual(["Ada Lovelace"]);
    expect((await a.status()).subjects).toBe(3);
    expect(await a.forget("p-ada")).toBe(true);
    expect(await b.forget(strange)).toBe(true);
    expect((await b.get(Person, "1").state()).names).toEqual(["-"]);
    expect((await a.get(Person, "3").state()).names).toEqual(["-"]);
    expect((await b.projection(Names)).names.toSorted()).toEqual(["-", "-", "Bob"]);
    await b.runProcessManagers();
    expect((await b.deadLetters()).map(({ command }) => command)).toEqual(
      expect.arrayContaining([
        { type: "Refuse", data: { person: "-", name: "-" } },
        { type: "Refuse", data: { person: "p-bob", name: "Bob" } },
      ]),
    );
    await Promise.all([a.close(), b.close()]);
    const c = await open();
    expect((await c.projection(Names)).names.toSorted()).toEqual(["-", "-", "Bob"]);
    expect((await collect(c.export())).join("\n")).not.toMatch(/Ada|p-ada|Bob|Eve/);
    await c.close();
    for (const table of ["events", "notes", "letters", "snapshots", "checkpoints", "keys"]) {
      const { rows } = await shared.query(`select t::text as row from ${name}.${table} t`);
      const text = JSON.stringify(rows);
      expect(text).not.toMatch(/Ada|p-ada|Eve/);
      if (table !== "keys") expect(text).not.toMatch(/Bob/);
    }
  });
});
