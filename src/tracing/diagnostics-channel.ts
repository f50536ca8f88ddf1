import type * as DiagnosticsChannel from "node:diagnostics_channel";

interface Host {
  readonly process?: { readonly getBuiltinModule?: (name: string) => unknown };
}

/**
 * Node's `diagnostics_channel`, or nothing where there is none, e.g. in a browser. Looked up instead of imported: an import would
 * fail in a browser and in each bundle for one.
 */
export const diagnosticsChannel: typeof DiagnosticsChannel | undefined = (
  globalThis as Host
).process?.getBuiltinModule?.("node:diagnostics_channel") as typeof DiagnosticsChannel | undefined;
