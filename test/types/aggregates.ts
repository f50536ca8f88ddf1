/** Contracts, behaviour, and what is inferred from them. */
import {
  aggregate,
  type CommandEnvelope,
  type CommandOf,
  data,
  type EventOf,
  type Message,
  type RejectionOf,
  type StateOf,
} from "eventfold-es";
import { Account, type Transfer } from "./bank.ts";
import { type Same, yes } from "./support.ts";

// Inferred types are those that a person would have written.
yes<Same<StateOf<typeof Account>, { owner: string; balance: number; open: boolean }>>();
yes<Same<StateOf<typeof Transfer>, { status: "none" | "pending" | "done" }>>();
yes<
  Same<
    EventOf<typeof Transfer>,
    | { readonly type: "Requested"; readonly data: { from: string; to: string; amount: number } }
    | { readonly type: "Completed"; readonly data?: undefined }
    | { readonly type: "TimedOut"; readonly data?: undefined }
  >
>();
yes<
  Same<
    CommandOf<typeof Account>,
    | { readonly type: "Open"; readonly data: { owner: string } }
    | { readonly type: "Deposit"; readonly data: { amount: number; transfer?: string } }
    | { readonly type: "Withdraw"; readonly data: { amount: number; transfer?: string } }
    | { readonly type: "Close"; readonly data?: undefined }
  >
>();
yes<
  Same<
    RejectionOf<typeof Account>,
    | { readonly type: "NotOpen"; readonly data?: undefined }
    | { readonly type: "InsufficientFunds"; readonly data: { balance: number; needed: number } }
  >
>();
yes<Same<RejectionOf<typeof Transfer>, never>>();
yes<Same<(typeof Account)["type"], "account">>();

// The initial state: a value, a function, something that is no object.
const parts = { events: { A: data() }, commands: { Do: data() } };
const lazy = aggregate("x", { initial: () => ({ n: 0, tags: [] as string[] }), ...parts });
yes<Same<StateOf<typeof lazy>, { n: number; tags: string[] }>>();
const literal = aggregate("x", { initial: (): { status: "on" | "off" } => ({ status: "off" }), ...parts });
yes<Same<StateOf<typeof literal>, { status: "on" | "off" }>>();
const count = aggregate("x", { initial: 0, ...parts });
yes<Same<StateOf<typeof count>, number>>();
const word = aggregate("x", { initial: "none" as "none" | "some", ...parts });
yes<Same<StateOf<typeof word>, "none" | "some">>();
const maybe = aggregate("x", { initial: null as { n: number } | null, ...parts });
yes<Same<StateOf<typeof maybe>, { n: number } | null>>();

// Constructors.
yes<Same<ReturnType<typeof Account.events.Opened>, Message<"Opened", { owner: string }>>>();
yes<Same<ReturnType<typeof Account.commands.Close>, { readonly type: "Close"; readonly data?: undefined }>>();
Account.commands.Deposit({ amount: 5 });
Account.commands.Deposit({ amount: 5, transfer: "t" });
Account.commands.Close();
// @ts-expect-error amount must be a number
Account.commands.Deposit({ amount: "5" });
// @ts-expect-error missing payload
Account.commands.Deposit();
// @ts-expect-error missing property
Account.commands.Deposit({});
// @ts-expect-error a property that is not there (a slip of the pen)
Account.commands.Deposit({ amount: 5, amuont: 1 });
// @ts-expect-error an optional property is left out, not undefined
Account.commands.Deposit({ amount: 5, transfer: undefined });
// @ts-expect-error a command without a payload takes no argument
Account.commands.Close({});
// @ts-expect-error unknown command
Account.commands.Explode();
// @ts-expect-error commands are no events
Account.events.Deposit({ amount: 1 });
// @ts-expect-error wrong payload of an event
Account.events.Deposited({ amount: null });
// @ts-expect-error constructors cannot be replaced
Account.commands.Close = () => ({ type: "Close" });

// Envelopes.
yes<
  Same<
    ReturnType<ReturnType<typeof Account.at>["Deposit"]>,
    CommandEnvelope<"account", Message<"Deposit", { amount: number; transfer?: string }>>
  >
>();
const byHand: CommandEnvelope<"transfer", CommandOf<typeof Transfer>> = {
  aggregate: "transfer",
  id: "t",
  command: { type: "Complete" },
};
export const sent: CommandEnvelope = byHand;
// @ts-expect-error unknown command
Account.at("a").Explode();
// @ts-expect-error wrong payload
Account.at("a").Deposit({ amount: true });
// @ts-expect-error an id is a string
Account.at(5).Close();

// Behaviour: exhaustive, and only what is declared.
const contract = aggregate("x", {
  initial: { n: 0, list: [{ k: "" }] },
  events: { A: data<{ by: number }>(), B: data() },
  commands: { Do: data<{ by: number }>(), Other: data() },
  rejections: { Bad: data<{ why: string }>(), Worse: data() },
});
const apply = { A: () => ({ n: 0, list: [] }), B: () => ({ n: 0, list: [] }) };
const handle = { Do: () => [], Other: () => [] };

contract.define({
  handle,
  // @ts-expect-error event B is not applied
  apply: { A: apply.A },
});
contract.define({
  // @ts-expect-error command Other is not handled
  handle: { Do: handle.Do },
  apply,
});
contract.define({
  // @ts-expect-error a command that is not declared
  handle: { ...handle, Third: () => [] },
  apply,
});
contract.define({
  handle,
  // @ts-expect-error an event that is not declared
  apply: { ...apply, C: () => ({ n: 0, list: [] }) },
});
// @ts-expect-error nothing is applied
contract.define({ handle });
// @ts-expect-error nothing is handled
contract.define({ apply });
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error returns an event that is not declared
    Do: () => ({ type: "Nope", data: {} }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error returns the event of another aggregate
    Do: () => Account.events.Closed(),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error returns a command
    Do: ({ data }) => contract.commands.Do(data),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error returns an event without its payload
    Do: () => ({ type: "A" }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error one event of the list is not declared
    Do: ({ emit }) => [emit.B(), { type: "Nope" }],
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error a decision is made at once
    Do: async ({ emit }) => emit.B(),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error unknown event
    Do: ({ emit }) => emit.Nope(),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error wrong payload of the event
    Do: ({ emit }) => emit.A({ by: "1" }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error a payload that is not there
    Do: ({ emit }) => emit.B({ by: 1 }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error a rejection that is not declared
    Do: ({ reject }) => reject.Worst(),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error a rejection without its payload
    Do: ({ reject }) => reject.Bad(),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error a rejection is made with reject
    Do: () => ({ type: "Worse" }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    // @ts-expect-error no such property in the command's payload
    Do: ({ data, emit }) => emit.A({ by: data.amount }),
  },
  apply,
});
contract.define({
  handle: {
    ...handle,
    Do: ({ state }) => {
      // @ts-expect-error handlers cannot change the state
      state.n = 3;
      // @ts-expect-error nor what is in it
      state.list.push({ k: "" });
      for (const item of state.list) {
        // @ts-expect-error nor deeper
        item.k = "x";
      }
    },
  },
  apply,
});
contract.define({
  handle,
  apply: {
    ...apply,
    // @ts-expect-error wrong shape of the state
    A: () => ({ n: "zero", list: [] }),
  },
});
contract.define({
  handle,
  apply: {
    ...apply,
    // @ts-expect-error the state is returned
    A: (state) => void state.n,
  },
});
contract.define({
  handle,
  // @ts-expect-error a number of events
  snapshotEvery: "100",
  apply,
});

// All that handlers are given.
contract.define({
  handle: {
    Do: ({ state, data, id, version, context, now, emit, reject }) => {
      yes<Same<typeof state, { readonly n: number; readonly list: readonly { readonly k: string }[] }>>();
      yes<Same<typeof data, { by: number }>>();
      yes<Same<typeof id, string>>();
      yes<Same<typeof version, number>>();
      yes<Same<typeof context.actor, string | undefined>>();
      yes<Same<typeof now, Date>>();
      return data.by > 0 ? [emit.A(data), emit.B()] : reject.Bad({ why: id });
    },
    Other: ({ data, reject }) => {
      yes<Same<typeof data, undefined>>();
      return Math.random() > 0.5 ? reject.Worse() : undefined;
    },
  },
  apply: {
    A: (state, data, event) => {
      yes<Same<typeof state, { n: number; list: { k: string }[] }>>();
      yes<Same<typeof data, { by: number }>>();
      yes<Same<typeof event.type, "A">>();
      yes<Same<typeof event.data, { by: number }>>();
      yes<Same<typeof event.version, number>>();
      yes<Same<typeof event.timestamp, number>>();
      yes<Same<typeof event.eventId, string>>();
      yes<Same<typeof event.actor, string | undefined>>();
      // @ts-expect-error a new event has no position yet
      void event.position;
      // @ts-expect-error the record cannot be changed
      event.version = 1;
      return { ...state, n: state.n + data.by };
    },
    B: (state, data, event) => {
      yes<Same<typeof data, undefined>>();
      yes<Same<typeof event.data, undefined>>();
      return state;
    },
  },
});

// An aggregate without rejections has nothing to reject with.
aggregate("x", { initial: 0, ...parts }).define({
  handle: {
    // @ts-expect-error nothing is declared
    Do: ({ reject }) => reject.Any(),
  },
  apply: { A: (n) => n },
});

// Literal unions in the state, with handlers that take nothing.
const cut = { initial: { status: "none" as "none" | "on" }, events: { On: data() }, commands: { Go: data() } };
aggregate("cut", cut).define({
  handle: { Go: ({ emit }) => emit.On() },
  apply: { On: () => ({ status: "on" }) },
});
aggregate("cut", cut).define({
  handle: { Go: ({ emit }) => emit.On() },
  // @ts-expect-error a slip of the pen in a literal
  apply: { On: () => ({ status: "onn" }) },
});

// Exhaustive switches.
export function complete(command: CommandOf<typeof Transfer>): string {
  switch (command.type) {
    case "Request":
      return command.data.from;
    case "Complete":
    case "TimeOut":
      return "";
    default:
      return command satisfies never;
  }
}
// @ts-expect-error not all cases return
export function incomplete(command: CommandOf<typeof Transfer>): string {
  switch (command.type) {
    case "Request":
      return command.data.from;
    case "Complete":
      return "";
  }
}
export function wrongCase(event: EventOf<typeof Transfer>): string {
  // @ts-expect-error no such event
  return event.type === "Nope" ? "" : event.type;
}
export function narrowed(event: EventOf<typeof Account>): number {
  // @ts-expect-error not every event has a payload
  void event.data.amount;
  return event.type === "Deposited" || event.type === "Withdrawn" ? event.data.amount : 0;
}

// @ts-expect-error an event's declaration is `data()` or a schema
aggregate("x", { initial: 0, events: { A: {} }, commands: {} });
// @ts-expect-error a contract has commands
aggregate("x", { initial: 0, events: {} });
// @ts-expect-error a contract has an initial state
aggregate("x", { events: {}, commands: {} });
