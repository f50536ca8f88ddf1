import { aggregate, data, processManager } from "eventfold-es";

/** The model of a program under hot reload. Each evaluation makes new definitions. */
export const Lamp = aggregate("lamp", {
  initial: { on: false },
  events: { Lit: data() },
  commands: { Light: data() },
}).define({
  handle: { Light: ({ emit }) => emit.Lit() },
  apply: { Lit: () => ({ on: true }) },
});

export const Watchman = processManager("watchman", { dispatches: [Lamp] }).on(Lamp, { Lit: () => undefined });
