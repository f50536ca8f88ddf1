import type { SpanContext } from "@opentelemetry/api";

/** The W3C form: version, trace id, span id, flags. Later versions may have more fields. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-|$)/;

/** The metadata by which another process finds the span. */
export function traceMetadata({ traceId, spanId, traceFlags }: SpanContext): { readonly traceparent: string } {
  return { traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}` };
}

/** The span that a `traceparent` names; nothing for anything else. */
export function remoteSpan(traceparent: unknown): SpanContext | undefined {
  const [, traceId, spanId, flags] = typeof traceparent === "string" ? (TRACEPARENT.exec(traceparent) ?? []) : [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}
