import { present } from "../assert-invariant.ts";
import type { CommandLimits } from "../aggregate/instance/command-limits.ts";
import type { CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { mergedContext, withMetadata } from "../aggregate/context.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { dispatching, type DispatchTrace } from "../tracing/tracing.ts";
import { dispatchAll } from "./dispatch-all.ts";
import type { Instances } from "./instances.ts";
import { checkEnvelope } from "./middleware.ts";

/** Executes the commands of envelopes: a single one in its instance's queue, several in one commit. Fields of `context` win over the envelopes' own. */
export async function dispatch(
  instances: Instances,
  events: EventStore,
  envelopes: readonly CommandEnvelope[],
  context: CommandContext,
  limits: CommandLimits = {},
): Promise<{ readonly results: readonly CommandOutcome[]; readonly position: number }> {
  const complete = envelopes.map((envelope) => ({
    ...checkEnvelope(envelope),
    context: mergedContext(envelope.context, context),
  }));
  const { middleware } = instances;
  if (middleware.isEmpty) return execute(instances, events, complete, limits);
  const [only] = complete;
  const send = async (sent: readonly CommandEnvelope[]): Promise<readonly CommandOutcome[]> =>
    (await execute(instances, events, sent, limits)).results;
  const results =
    only !== undefined && complete.length === 1
      ? [await middleware.pass(only, async (sent) => present((await send([sent]))[0], "one result"), limits.signal)]
      : await middleware.passAll(complete, send);
  return { results, position: lastPosition(results) };
}

async function execute(
  instances: Instances,
  events: EventStore,
  envelopes: readonly CommandEnvelope[],
  limits: CommandLimits = {},
): Promise<{ readonly results: readonly CommandOutcome[]; readonly position: number }> {
  const commands = envelopes.map(({ aggregate, id, command, context = {} }) => {
    const stream = { type: aggregate, id };
    return { stream, command: instances.prepare(stream, command, context) };
  });
  return dispatching.promise(
    () => dispatchTrace(commands),
    async (trace) => {
      const extra = trace?.extraMetadata;
      const sent =
        extra === undefined
          ? commands
          : commands.map(({ stream, command }) => ({ stream, command: withMetadata(command, extra) }));
      const [only] = sent;
      const results =
        only !== undefined && sent.length === 1
          ? [await instances.run(only.stream, only.command, limits)]
          : await dispatchAll(instances, events, sent, limits.remember === "all");
      const position = lastPosition(results);
      if (trace !== undefined) {
        trace.events = results.reduce((sum, outcome) => sum + outcome.events.length, 0);
        trace.position = position;
      }
      return { results, position };
    },
  );
}

function lastPosition(results: readonly CommandOutcome[]): number {
  return results.reduce((last, { position }) => Math.max(last, position), 0);
}

function dispatchTrace(
  commands: readonly { readonly stream: StreamName; readonly command: { readonly type: string } }[],
): DispatchTrace {
  return {
    processManager: undefined,
    commands: commands.map(({ stream, command }) => ({ aggregate: stream.type, id: stream.id, command: command.type })),
    cause: undefined,
    causeId: undefined,
    causeTraceparent: undefined,
  };
}
