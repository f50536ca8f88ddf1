import { orAborted } from "../abort.ts";
import type { CommandLimits } from "../aggregate/instance/command-limits.ts";
import type { CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { mergedContext } from "../aggregate/context.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { dispatching, type DispatchTrace } from "../tracing/tracing.ts";
import { dispatchAll } from "./dispatch-all.ts";
import type { Instances } from "./instances.ts";

/** Executes the commands of envelopes: a single one in its instance's queue, several in one commit. Fields of `context` win over the envelopes' own. */
export async function dispatch(
  instances: Instances,
  events: EventStore,
  envelopes: readonly CommandEnvelope[],
  context: CommandContext,
  limits: CommandLimits = {},
): Promise<{ readonly results: readonly CommandOutcome[]; readonly position: number }> {
  const prepared = Promise.all(
    envelopes.map(async (envelope) => {
      checkEnvelope(envelope);
      const stream = { type: envelope.aggregate, id: envelope.id };
      return {
        stream,
        command: await instances.prepare(stream, envelope.command, mergedContext(envelope.context, context)),
      };
    }),
  );
  const commands = await orAborted(prepared, limits.signal);
  return dispatching.promise(
    () => dispatchTrace(commands),
    async (trace) => {
      const [only] = commands;
      const results =
        only !== undefined && commands.length === 1
          ? [await instances.run(only.stream, only.command, limits)]
          : await dispatchAll(instances, events, commands);
      const position = results.reduce((last, outcome) => Math.max(last, outcome.position), 0);
      if (trace !== undefined) {
        trace.events = results.reduce((sum, outcome) => sum + outcome.events.length, 0);
        trace.position = position;
      }
      return { results, position };
    },
  );
}

function checkEnvelope(envelope: unknown): asserts envelope is CommandEnvelope {
  const { aggregate, id, command } = (typeof envelope === "object" && envelope !== null ? envelope : {}) as Record<
    string,
    unknown
  >;
  if (typeof aggregate !== "string" || typeof id !== "string" || typeof command !== "object") {
    throw new EventfoldError("INVALID_COMMAND", "an envelope is an object { aggregate, id, command, context? }");
  }
}

function dispatchTrace(
  commands: readonly { readonly stream: StreamName; readonly command: { readonly type: string } }[],
): DispatchTrace {
  return {
    processManager: undefined,
    commands: commands.map(({ stream, command }) => ({ aggregate: stream.type, id: stream.id, command: command.type })),
    cause: undefined,
  };
}
