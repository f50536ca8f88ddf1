import type { Meter, Tracer } from "@opentelemetry/api";
import type { OpenTelemetryApi } from "./api.ts";
import { recordMetrics } from "./metrics.ts";
import { recordSpans } from "./spans.ts";

export interface InstrumentOptions {
  /** Makes the spans. The global tracer `eventfold-es` if left out; none are made with `false`. */
  readonly tracer?: Tracer | false | undefined;
  /** Makes the instruments. The global meter `eventfold-es` if left out; none are made with `false`. */
  readonly meter?: Meter | false | undefined;
  /**
   * Stores the trace context with each event, as `traceparent` in its metadata, so that a reaction in another process or after a
   * restart continues the trace. `false` if left out.
   */
  readonly propagate?: boolean | undefined;
}

const NAME = "eventfold-es";

/**
 * Turns the work of all stores of this process into OpenTelemetry spans and metrics, from now on. `api` is the package
 * `@opentelemetry/api`. Returns the function that ends it; spans that are not finished then are finished at once.
 */
export function instrument(api: OpenTelemetryApi, options: InstrumentOptions = {}): () => void {
  const { tracer = api.trace.getTracer(NAME), meter = api.metrics.getMeter(NAME), propagate = false } = options;
  const ends = [
    tracer === false ? () => {} : recordSpans(api, tracer, propagate),
    meter === false ? () => {} : recordMetrics(meter),
  ];
  return () => {
    for (const end of ends) end();
  };
}
