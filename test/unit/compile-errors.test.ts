import { join } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { ROOT } from "../docs/documentation.ts";

const HEAD = `
import { aggregate, AggregateStore, CommandBus, data, projection } from "eventfold-es";
import { Account, Transfer } from "./bank.ts";
const Till = aggregate("till", { initial: 0, events: { Shut: data() }, commands: { Close: data(), Count: data() } })
  .define({ handle: { Close: ({ emit }) => emit.Shut(), Count: () => {} }, apply: { Shut: (n) => n } });
const Sums = projection("sums", { n: 0 }).on(Account, { Closed: (view) => view });
const Others = projection("others", { n: 0 }).on(Account, { Closed: (view) => view });
const builder = AggregateStore.builder("d").aggregate(Account).aggregate(Transfer).projection(Sums);
const store = await builder.open();
const bus = new CommandBus(store).register(Account).register(Till);
export { Others, Till, bus, builder, store };
`;

/** Statements with what the first line of their only error says. */
const FAULTS: readonly (readonly [statement: string, text: string])[] = [
  [
    'store.get(Till, "t");',
    'the aggregate \\"till\\" is not registered in this store: add .aggregate(…) to its builder',
  ],
  ["await store.list(Till);", 'the aggregate \\"till\\" is not registered in this store'],
  [
    "await store.projection(Others);",
    'the projection \\"others\\" is not registered in this store: add .projection(…)',
  ],
  ["await store.rebuildProjection(Others);", 'the projection \\"others\\" is not registered in this store'],
  ['await store.dispatch(Till.at("t").Count());', 'the aggregate \\"till\\" is not registered in this store'],
  [
    'await store.dispatch({ aggregate: "till", id: "t", command: { type: "Count" } });',
    'the aggregate \\"till\\" is not registered in this store',
  ],
  [
    'await store.dispatchAll([Account.at("a").Close(), Till.at("t").Count()]);',
    'the aggregate \\"till\\" is not registered in this store',
  ],
  ['await store.schedule(Till.at("t").Count(), { in: "1h" });', 'the aggregate \\"till\\" is not registered'],
  [
    'AggregateStore.builder("d").aggregate(Transfer).projection(Sums);',
    'the aggregate \\"account\\" is not registered before this: call .aggregate(…) first',
  ],
  [
    'await bus.dispatch("t", { type: "Close" });',
    'several aggregates on this bus have a command \\"Close\\": send an envelope, as .at(id).Close(…) makes it',
  ],
  ['await bus.try("t", { type: "Close" });', 'several aggregates on this bus have a command \\"Close\\"'],
  ['await bus.dispatch("t", { type: "Nope" });', 'no aggregate on this bus has a command \\"Nope\\"'],
  ['await bus.dispatch(Transfer.at("t").Complete());', 'the aggregate \\"transfer\\" is not registered on this bus'],
  ["data<{ at: Date }>();", "JSON cannot hold data.at"],
  ["data<Map<string, number>>();", "JSON cannot hold data"],
  ["data<{ list: { id: bigint }[] }>();", "JSON cannot hold data.list[].id"],
  ["data<{ n: number }>().to<{ at: Date }>(() => ({ at: new Date() }));", "JSON cannot hold data.at"],
];

const path = join(ROOT, "test/types/compile-errors.ts");
const lines = [...HEAD.split("\n"), ...FAULTS.map(([statement]) => statement)];

/** The first lines of the compiler's errors, by the line of the program. */
function firstLines(): Map<number, string[]> {
  const code = lines.join("\n");
  const config = ts.readConfigFile(join(ROOT, "tsconfig.json"), (file) => ts.sys.readFile(file));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (file) => file === path || fileExists(file);
  host.readFile = (file) => (file === path ? code : readFile(file));
  host.getSourceFile = (file, language, ...rest) =>
    file === path ? ts.createSourceFile(file, code, language, true) : getSourceFile(file, language, ...rest);
  const program = ts.createProgram([path], options, host);
  const found = new Map<number, string[]>();
  const source = program.getSourceFile(path);
  for (const { start = 0, messageText } of ts.getPreEmitDiagnostics(program, source)) {
    const line = source?.getLineAndCharacterOfPosition(start).line ?? -1;
    const [first = ""] = ts.flattenDiagnosticMessageText(messageText, "\n").split("\n");
    found.set(line, [...(found.get(line) ?? []), first]);
  }
  return found;
}

describe("the first line of the compiler's error says what is wrong", () => {
  const found = firstLines();

  test("and sound code has no errors", () => {
    expect([...found.keys()].filter((line) => line < HEAD.split("\n").length)).toEqual([]);
  });

  for (const [index, [statement, text]] of FAULTS.entries()) {
    test(statement, () => {
      const errors = found.get(HEAD.split("\n").length + index) ?? [];
      expect(errors).toEqual([expect.stringContaining(text)]);
    });
  }
});
