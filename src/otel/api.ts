import type * as OpenTelemetry from "@opentelemetry/api";

/** The parts of the package `@opentelemetry/api` that are used. */
export type OpenTelemetryApi = Pick<typeof OpenTelemetry, "context" | "metrics" | "trace">;
