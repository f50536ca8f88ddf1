import { aggregate, data, processManager, type ProcessManagerOptions } from "eventfold-es";

/** What sends. */
export const Source = aggregate("source", {
  initial: null,
  events: { Sent: data<{ n: number; more?: number[] }>() },
  commands: { Send: data<{ n: number; more?: number[] }>() },
}).define({
  handle: { Send: ({ data: sent, emit }) => emit.Sent(sent) },
  apply: { Sent: () => null },
});

/** What receives: rejects numbers below its limit, and has a bug. */
export const Target = aggregate("target", {
  initial: { limit: 0, got: [] as number[] },
  events: { Got: data<{ n: number }>(), Limited: data<{ to: number }>() },
  commands: { Get: data<{ n: number }>(), Limit: data<{ to: number }>() },
  rejections: { TooSmall: data<{ limit: number }>() },
}).define({
  handle: {
    Get: ({ state, data: { n }, emit, reject }) => {
      if (n === 666) throw new RangeError("666 is a bug");
      return n < state.limit ? reject.TooSmall({ limit: state.limit }) : emit.Got({ n });
    },
    Limit: ({ data: limit, emit }) => emit.Limited(limit),
  },
  apply: {
    Got: ({ limit, got }, { n }) => ({ limit, got: [...got, n] }),
    Limited: ({ got }, { to }) => ({ limit: to, got }),
  },
});

export type SenderOptions = Partial<ProcessManagerOptions<[typeof Target], null>>;

/** The reaction of a sender fails for this number. */
export const BUG = 1313;

/** Sends what each source sends to the target, one command for each number. */
export const sender = (options: SenderOptions) =>
  processManager("sender", { dispatches: [Target], ...options }).on(Source, {
    Sent: (_, { data: { n, more = [] } }) => {
      if (n === BUG) throw new RangeError("a bug in the reaction");
      return [n, ...more].map((each) => Target.at("t").Get({ n: each }));
    },
  });
