import { aggregate, data } from "eventfold-es";

/** The account without its deposits: a mistake that the lock file finds. */
export const Account = aggregate("account", {
  initial: {},
  events: { Opened: data<{ owner: string; branch: string }>() },
  commands: {},
}).define({ handle: {}, apply: { Opened: (state) => state } });
