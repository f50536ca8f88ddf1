import { aggregate, data } from "eventfold-es";

/** Adds; the simplest aggregate that has something to add up. */
export const Counter = aggregate("counter", {
  initial: 0,
  events: { Added: data<{ by: number }>(), Cleared: data() },
  commands: { Add: data<{ by: number }>(), AddMany: data<{ count: number }>(), Clear: data() },
}).define({
  handle: {
    Add: ({ data: d, emit }) => emit.Added(d),
    AddMany: ({ data: { count }, emit }) => Array.from({ length: count }, () => emit.Added({ by: 1 })),
    Clear: ({ emit }) => emit.Cleared(),
  },
  apply: { Added: (total, { by }) => total + by, Cleared: () => 0 },
});

/** A second aggregate, whose events share a name with the first's. */
export const Meter = aggregate("meter", {
  initial: 0,
  events: { Added: data<{ watts: number }>() },
  commands: { Measure: data<{ watts: number }>() },
}).define({
  handle: { Measure: ({ data: d, emit }) => emit.Added(d) },
  apply: { Added: (total, { watts }) => total + watts },
});
