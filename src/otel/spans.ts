import { AsyncLocalStorage } from "node:async_hooks";
import type { Attributes, Span, SpanContext, Tracer } from "@opentelemetry/api";
import type {
  CommitTrace,
  DispatchTrace,
  ExecuteTrace,
  LoadTrace,
  ProjectTrace,
  ReactTrace,
} from "../tracing/tracing.ts";
import type { OpenTelemetryApi } from "./api.ts";
import { type Ended, onOperation, onScope } from "./channels.ts";
import { isError, messageOf } from "../realm.ts";
import { errorTypeOf, rejectionOf } from "./failures.ts";
import { Recent } from "./recent.ts";
import { remoteSpan, traceMetadata } from "./trace-context.ts";

/** How many events and reactions are remembered, so that what they lead to finds its parent. */
const MOST_REMEMBERED = 10_000;
/** `SpanStatusCode.ERROR`. */
const ERROR = 2;

/** A span that is not ended, and the message of its operation. */
interface Open {
  readonly span: Span;
  readonly message: object;
  /** Set for a dispatch: whose commands it sends. */
  readonly dispatcher?: { readonly processManager: string | undefined };
}

/** What a span is a child of: another span; the active one, if there is one; or nothing. */
type Parent = SpanContext | "active" | "none";

/** Makes a span of each operation. Returns the function that ends this. */
export function recordSpans(api: OpenTelemetryApi, tracer: Tracer, propagate: boolean): () => void {
  const recorder = new SpanRecorder(api, tracer, propagate);
  const { scope } = recorder;
  const ends = [
    onScope("execute", scope, recorder.execute, recorder.executed),
    onScope("dispatch", scope, recorder.dispatch, recorder.dispatched),
    onOperation("commit", recorder.commit, recorder.committed),
    onOperation("load", recorder.load, recorder.loaded),
    onOperation("project", recorder.project, recorder.projected),
    onOperation("react", recorder.react, recorder.reacted),
  ];
  return () => {
    for (const end of ends) end();
    recorder.close();
  };
}

class SpanRecorder {
  /** The operation that the running code is part of. Code that an operation has started may run on after its end. */
  readonly scope: AsyncLocalStorage<Open> = new AsyncLocalStorage();
  readonly #api: OpenTelemetryApi;
  readonly #tracer: Tracer;
  readonly #propagate: boolean;
  readonly #open = new Map<object, Open>();
  /** Also of commands that were given up before their commit began. */
  readonly #executions = new WeakMap<object, SpanContext>();
  /** By the id of an event: the span of the command that made it. */
  readonly #events = new Recent<SpanContext>(MOST_REMEMBERED);
  /** By process manager and event: the span of the reaction. */
  readonly #reactions = new Recent<SpanContext>(MOST_REMEMBERED);

  constructor(api: OpenTelemetryApi, tracer: Tracer, propagate: boolean) {
    this.#api = api;
    this.#tracer = tracer;
    this.#propagate = propagate;
  }

  readonly execute = (message: ExecuteTrace): Open => {
    const { aggregate, id, command, correlationId, metadata } = message;
    const parent = this.#dispatching?.span.spanContext() ?? this.#activeOr(remoteSpan(metadata?.["traceparent"]));
    const open = this.#start(message, `execute ${aggregate}.${command}`, parent, {
      "eventfold.aggregate": aggregate,
      "eventfold.instance.id": id,
      "eventfold.command": command,
      ...(correlationId === undefined ? {} : { "eventfold.correlation_id": correlationId }),
    });
    this.#executions.set(message, open.span.spanContext());
    this.#inject(message, open.span);
    return open;
  };

  readonly executed = (message: Ended<ExecuteTrace>): void => {
    this.#end(message, {
      "eventfold.events": message.events,
      "eventfold.version": message.version,
      "eventfold.position": message.position,
    });
  };

  readonly dispatch = (message: DispatchTrace): Open => {
    const { processManager, commands, cause } = message;
    const [only] = commands;
    const isOne = only !== undefined && commands.length === 1;
    const open = this.#start(
      message,
      isOne ? `dispatch ${only.aggregate}.${only.command}` : "dispatch",
      this.#parentOfDispatch(message),
      {
        "eventfold.process_manager": processManager,
        "eventfold.cause.position": cause,
        "eventfold.commands": commands.length,
        ...(isOne
          ? {
              "eventfold.aggregate": only.aggregate,
              "eventfold.instance.id": only.id,
              "eventfold.command": only.command,
            }
          : {}),
      },
      { processManager },
    );
    this.#inject(message, open.span);
    return open;
  };

  readonly dispatched = (message: Ended<DispatchTrace>): void => {
    const { events, position, deadLetter, failure } = message;
    if (deadLetter === true) this.#fail(message, failure);
    this.#end(message, {
      "eventfold.events": events,
      "eventfold.position": position,
      "eventfold.dead_letter": deadLetter,
    });
  };

  readonly commit = (message: CommitTrace): void => {
    const { execution, streams, events, eventIds, processManager } = message;
    const parent = this.#parentOfCommit(message);
    // Notes of consumers that belong to no command and no reaction, e.g. how far a manager has read.
    if (parent === undefined && processManager !== undefined) return;
    const { span } = this.#start(message, "commit", parent ?? (execution === undefined ? "active" : "none"), {
      "eventfold.events": events,
      "eventfold.streams": streams.length,
      "eventfold.process_manager": processManager,
    });
    const maker = parent ?? span.spanContext();
    for (const id of eventIds) this.#events.set(id, maker);
  };

  readonly committed = (message: Ended<CommitTrace>): void => {
    this.#end(message, { "eventfold.position": message.position, "eventfold.conflict": message.conflict });
  };

  readonly load = (message: LoadTrace): void => {
    const { aggregate, id } = message;
    const attributes = { "eventfold.aggregate": aggregate, "eventfold.instance.id": id };
    this.#start(message, `load ${aggregate}`, this.#current?.span.spanContext() ?? "active", attributes);
  };

  readonly loaded = (message: Ended<LoadTrace>): void => {
    this.#end(message, {
      "eventfold.events": message.events,
      "eventfold.version": message.version,
      "eventfold.snapshot.version": message.snapshotVersion,
    });
  };

  readonly project = (message: ProjectTrace): void => {
    const { projection, from, rebuild } = message;
    this.#start(message, `project ${projection}`, this.#current?.span.spanContext() ?? "active", {
      "eventfold.projection": projection,
      "eventfold.from": from,
      "eventfold.rebuild": rebuild,
    });
  };

  readonly projected = (message: Ended<ProjectTrace>): void => {
    this.#end(message, { "eventfold.events": message.events, "eventfold.position": message.position });
  };

  readonly react = (message: ReactTrace): void => {
    const { processManager, aggregate, id, event, eventId, position, metadata, isReplay } = message;
    if (isReplay) return;
    const parent = this.#events.get(eventId) ?? remoteSpan(metadata?.["traceparent"]) ?? "none";
    const { span } = this.#start(message, `react ${processManager}`, parent, {
      "eventfold.process_manager": processManager,
      "eventfold.aggregate": aggregate,
      "eventfold.instance.id": id,
      "eventfold.event": event,
      "eventfold.position": position,
    });
    this.#reactions.set(reactionKey(processManager, eventId), span.spanContext());
  };

  readonly reacted = (message: Ended<ReactTrace>): void => {
    this.#end(message, { "eventfold.commands": message.commands });
  };

  /** Ends the spans that are open. */
  close(): void {
    for (const { span } of this.#open.values()) span.end();
    this.#open.clear();
  }

  /** The operation that the running code is part of, unless it has ended. */
  get #current(): Open | undefined {
    const open = this.scope.getStore();
    return open !== undefined && this.#open.has(open.message) ? open : undefined;
  }

  get #dispatching(): Open | undefined {
    const open = this.#current;
    return open?.dispatcher === undefined ? undefined : open;
  }

  #activeOr(remote: SpanContext | undefined): Parent {
    const { context, trace } = this.#api;
    return remote !== undefined && trace.getSpan(context.active()) === undefined ? remote : "active";
  }

  /** A manager runs in the context of the code that woke it, so the active span is not its parent. */
  #parentOfDispatch({ processManager, causeId, causeTraceparent }: DispatchTrace): Parent {
    if (processManager === undefined) return this.#dispatching?.span.spanContext() ?? "active";
    const caused =
      causeId === undefined
        ? undefined
        : (this.#reactions.get(reactionKey(processManager, causeId)) ?? this.#events.get(causeId));
    return caused ?? remoteSpan(causeTraceparent) ?? "none";
  }

  #parentOfCommit({ execution, processManager, causeId }: CommitTrace): SpanContext | undefined {
    if (execution !== undefined) return this.#executions.get(execution);
    const dispatching = this.#dispatching;
    if (dispatching?.dispatcher?.processManager === processManager && dispatching !== undefined)
      return dispatching.span.spanContext();
    if (processManager === undefined || causeId === undefined) return undefined;
    return this.#reactions.get(reactionKey(processManager, causeId));
  }

  #start(message: object, name: string, parent: Parent, attributes: Attributes, dispatcher?: Open["dispatcher"]): Open {
    const { context, trace } = this.#api;
    const active = context.active();
    const span =
      typeof parent === "string"
        ? this.#tracer.startSpan(name, { attributes, root: parent === "none" }, active)
        : this.#tracer.startSpan(name, { attributes }, trace.setSpanContext(active, parent));
    const open = { span, message, ...(dispatcher === undefined ? {} : { dispatcher }) };
    this.#open.set(message, open);
    return open;
  }

  #inject(message: ExecuteTrace | DispatchTrace, span: Span): void {
    const found = span.spanContext();
    if (this.#propagate && this.#api.trace.isSpanContextValid(found)) message.extraMetadata = traceMetadata(found);
  }

  #end(message: Ended<object>, attributes: Attributes): void {
    const span = this.#open.get(message)?.span;
    if (span === undefined) return;
    this.#open.delete(message);
    const { error } = message;
    const rejection = rejectionOf(error);
    span.setAttributes(attributes);
    // A rejection is an answer of the model, not a failure of the operation.
    if (rejection !== undefined) span.setAttribute("eventfold.rejection", rejection);
    else if ("error" in message) this.#failed(span, error);
    span.end();
  }

  /** A command that became a dead letter did not take effect, whatever the reason. */
  #fail(message: object, failure: unknown): void {
    const span = this.#open.get(message)?.span;
    if (span === undefined) return;
    const rejection = rejectionOf(failure);
    if (rejection !== undefined) span.setAttribute("eventfold.rejection", rejection);
    this.#failed(span, failure);
  }

  #failed(span: Span, error: unknown): void {
    const text = messageOf(error);
    span.recordException(isError(error) ? error : text);
    span.setAttribute("error.type", errorTypeOf(error));
    span.setStatus({ code: ERROR, message: text });
  }
}

function reactionKey(processManager: string, eventId: string): string {
  return `${eventId} ${processManager}`;
}
