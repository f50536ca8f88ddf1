import type { Command } from "commander";
import type { AnyAggregate, AnyProjection, RecordedEvent } from "eventfold-es";
import { existsSync, writeFileSync } from "node:fs";
import { dirname, relative, resolve, sep } from "node:path";
import { UsageError } from "../exit-codes.ts";
import type { Model } from "../model.ts";
import { type CommonOptions, wholeNumber, withApp } from "../options.ts";
import { type OpenedStore, withStore } from "../target.ts";
import type { Terminal } from "../terminal.ts";

interface ToTestOptions extends CommonOptions {
  readonly app: string;
  readonly from?: number;
  readonly to?: number;
  readonly output?: string;
}

/** `to-test`. */
export function addToTestCommand(cli: Command, terminal: Terminal): void {
  withApp(
    cli.command("to-test <store>").description("print a test file that expects the states that a store has now"),
    "required",
  )
    .option("--from <position>", "first position; only instances with events from there on", wholeNumber)
    .option("--to <position>", "last position", wholeNumber)
    .option("-o, --output <file>", "write to this new file")
    .addHelpText(
      "after",
      "\nExample:\n  eventfold to-test ./data --app ./model.js --to 500 -o store.test.js\n\nThe file runs under Vitest and under `node --test`.",
    )
    .action(async (target: string, options: ToTestOptions) => {
      const { output } = options;
      if (output !== undefined && existsSync(output))
        throw new UsageError(`expected no file at ${output} (--output), found one`);
      await withStore(target, options, async (opened) => {
        const text = await testFile(opened, options);
        if (output === undefined) return terminal.line(text);
        writeFileSync(output, `${text}\n`);
        await terminal.line(`wrote ${output}`);
      });
    });
}

async function testFile({ store, model }: OpenedStore, options: ToTestOptions): Promise<string> {
  const head = await store.head();
  const { from = 1 } = options;
  const to = Math.min(options.to ?? head, head);
  const aggregates = new Map(model.aggregates.map((aggregate) => [aggregate.type, aggregate]));
  const instances = new Map<string, { readonly aggregate: AnyAggregate; readonly id: string; version: number }>();
  for await (const { aggregate: type, id, version } of store.events({ from, to })) {
    const aggregate = aggregates.get(type);
    if (aggregate !== undefined) instances.set(JSON.stringify([type, id]), { aggregate, id, version });
  }
  const names = new Names(model, options);
  const tests: string[] = [];
  for (const { aggregate, id, version } of instances.values()) {
    const given: string[] = [];
    for await (const event of store.readEvents(aggregate.type, id)) {
      if (event.version > version) break;
      given.push(literal(messageOf(event)));
    }
    const state: unknown = await store.get(aggregate, id).state({ version });
    tests.push(testOf(`${aggregate.type} ${id}`, names.of(aggregate), given, state));
  }
  for (const projection of model.projections) {
    const given: string[] = [];
    const wanted = { to, aggregates: [...aggregates.keys()] };
    for await (const event of store.events(wanted)) given.push(literal(event));
    const state: unknown = await store.projectionAt(projection, to);
    tests.push(testOf(`projection ${projection.name}`, names.of(projection), given, state));
  }
  const imports = ['import { spec } from "eventfold-es/testing";', names.importLine()];
  const runner = 'const { test } = await import(process.env.VITEST === undefined ? "node:test" : "vitest");';
  return [...imports, "", runner, ...tests].join("\n");
}

/** The names under which the module of `--app` exports definitions. */
class Names {
  readonly #model: Model;
  readonly #path: string;
  readonly #used = new Set<string>();

  constructor(model: Model, { app, output }: ToTestOptions) {
    this.#model = model;
    const path = relative(output === undefined ? process.cwd() : dirname(resolve(output)), resolve(app)).replaceAll(
      sep,
      "/",
    );
    this.#path = path.startsWith(".") ? path : `./${path}`;
  }

  of(definition: AnyAggregate | AnyProjection): string {
    const name = this.#model.names.get(definition);
    if (name === undefined) {
      const what = "type" in definition ? `the aggregate ${definition.type}` : `the projection ${definition.name}`;
      throw new UsageError(
        `expected the module of --app to export ${what} by a name of its own, found it in another export`,
      );
    }
    this.#used.add(name);
    return name;
  }

  importLine(): string {
    return `import { ${[...this.#used].sort().join(", ")} } from ${JSON.stringify(this.#path)};`;
  }
}

function testOf(title: string, name: string, given: readonly string[], state: unknown): string {
  const events = given.map((event) => `      ${event},\n`).join("");
  const expected = JSON.stringify(state, undefined, 2).replaceAll("\n", "\n    ");
  return `\ntest(${JSON.stringify(title)}, () => {\n  spec(${name})\n    .given(\n${events}    )\n    .thenState(${expected});\n});`;
}

function messageOf({ type, data }: RecordedEvent): object {
  return data === undefined ? { type } : { type, data };
}

function literal(value: object): string {
  return JSON.stringify(value);
}
