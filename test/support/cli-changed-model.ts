import { aggregate, data } from "eventfold-es";

/** The account without its deposits, as somebody might leave them out by mistake. */
export const Account = aggregate("account", {
  initial: {},
  events: { Opened: data<{ owner: string; branch: string }>() },
  commands: {},
}).define({ handle: {}, apply: { Opened: (state) => state } });
