import { parseArgs } from "node:util";

/** For how long a soak goes on: its first argument, or `--seconds`; 60 if neither is given. Other options are texts with a default. */
export function soakOptions<T extends Readonly<Record<string, string>>>(
  defaults: T,
): { readonly seconds: number } & { readonly [K in keyof T]: string } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string" },
      ...Object.fromEntries(
        Object.entries(defaults).map(([name, value]) => [name, { type: "string", default: value }]),
      ),
    } as Record<string, { type: "string"; default?: string }>,
  });
  const text = positionals[0] ?? values["seconds"] ?? "60";
  const seconds = Number(text);
  if (!(seconds > 0)) throw new TypeError(`expected a number of seconds, found ${JSON.stringify(text)}`);
  return { ...(values as { readonly [K in keyof T]: string }), seconds };
}
