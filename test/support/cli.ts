import { PassThrough } from "node:stream";
import { runCommandLine } from "../../src/cli/run.ts";

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line in this process, on a terminal of so many columns if `columns` is given. */
export async function cli(
  args: readonly string[],
  { columns, env = {} }: { readonly columns?: number; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<CliResult> {
  const terminal = columns === undefined ? {} : { isTTY: true, columns };
  const stdout = Object.assign(new PassThrough(), terminal);
  const stderr = Object.assign(new PassThrough(), terminal);
  const texts = Promise.all([stdout, stderr].map(textOf));
  const host = { stdout, stderr, env } as unknown as Parameters<typeof runCommandLine>[1];
  const code = await runCommandLine(args, host);
  stdout.end();
  stderr.end();
  const [out = "", err = ""] = await texts;
  return { code, out, err };
}

async function textOf(stream: PassThrough): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}
