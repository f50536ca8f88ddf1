/**
 * A bank with accounts, as each contender implements it. Every command checks the account's state and writes one
 * event with the full envelope: event id, time, actor, correlation id.
 */
export interface Bank {
  /** The first command of an account. */
  open(account: string): Promise<unknown>;
  /** Resolves when the event is as durable as the contender makes it. */
  deposit(account: string, amount: number): Promise<unknown>;
  /** The balance, from the stored events. */
  load(account: string): Promise<number>;
  /** Folds the events of all accounts, from the first on; resolves to the sum of all deposits. There are so many events. */
  project(events: number): Promise<number>;
  /** The same once more, if the contender can. */
  rebuild?(): Promise<void>;
  /** Opens accounts and deposits 1 so many times in each, in turns of `together`, as fast as the contender can. */
  fill(accounts: readonly string[], deposits: number, together?: number): Promise<void>;
  close(): Promise<void>;
}

/** Fields that come with each command. */
export const CONTEXT = { actor: "user-1", correlationId: "request-1" };

/** `acct-0`, `acct-1` … */
export function accounts(count: number, prefix = "acct"): string[] {
  return Array.from({ length: count }, (_, n) => `${prefix}-${n}`);
}

export interface AccountState {
  readonly open: boolean;
  readonly balance: number;
}

export const UNOPENED: AccountState = { open: false, balance: 0 };

/** An event as the contenders written by hand store it. */
export interface BankEvent {
  readonly type: "Opened" | "Deposited";
  readonly data: { readonly owner: string } | { readonly amount: number };
}

export function apply(state: AccountState, { type, data }: BankEvent): AccountState {
  return type === "Opened"
    ? { ...state, open: true }
    : { ...state, balance: state.balance + (data as { readonly amount: number }).amount };
}

export function decideOpen(state: AccountState): BankEvent {
  if (state.open) throw new Error("the account is open");
  return { type: "Opened", data: { owner: "Ada" } };
}

export function decideDeposit(state: AccountState, amount: number): BankEvent {
  if (!state.open) throw new Error("the account is not open");
  return { type: "Deposited", data: { amount } };
}

/** The numbers 0 to `count`, in pieces. */
export function* pieces(count: number, size: number): Generator<{ readonly from: number; readonly to: number }> {
  for (let from = 0; from < count; from += size) yield { from, to: Math.min(from + size, count) };
}
