export type { OpenTelemetryApi } from "./api.ts";
export { instrument, type InstrumentOptions } from "./instrument.ts";
