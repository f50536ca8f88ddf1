import type * as library from "eventfold-es";

/**
 * A program that uses every part of the library that waits for something: disk, locks, projections, process managers, schedules,
 * subscriptions, retries. It is given the library, so that it runs in any surroundings, and uses no timer of its own.
 */
export type Library = typeof library;

export interface ProgramResult {
  /** What a second process would see: the state after closing and opening again. */
  readonly balance: number;
  readonly total: number;
  readonly position: number;
  readonly reminded: boolean;
  readonly rejection: string;
  readonly handled: readonly string[];
}

/** `passTime` makes the schedule due: by a fake clock. Without it the schedule is due at once. */
export async function wholeProgram(
  { aggregate, AggregateStore, data, processManager, projection }: Library,
  directory: string,
  passTime?: (ms: number) => void,
): Promise<ProgramResult> {
  const Account = aggregate("account", {
    initial: { balance: 0, reminded: false, history: [] as readonly number[] },
    events: { Deposited: data<{ amount: number; tags: string[] }>(), Reminded: data() },
    commands: { Deposit: data<{ amount: number; tags: string[] }>(), Remind: data() },
    rejections: { TooMuch: data<{ limit: number }>() },
  }).define({
    handle: {
      Deposit: ({ data: deposit, emit, reject }) =>
        deposit.amount > 1000 ? reject.TooMuch({ limit: 1000 }) : emit.Deposited(deposit),
      Remind: ({ state, emit }) => (state.reminded ? undefined : emit.Reminded()),
    },
    apply: {
      Deposited: (s, { amount }) => ({ ...s, balance: s.balance + amount, history: [...s.history, amount] }),
      Reminded: (s) => ({ ...s, reminded: true }),
    },
  });
  const Total = projection("total", () => ({ total: 0, byTag: {} as Record<string, number> })).on(Account, {
    Deposited: (state, { data: { amount, tags } }) => {
      state.total += amount;
      for (const tag of tags) state.byTag[tag] = (state.byTag[tag] ?? 0) + amount;
    },
  });
  const Reminder = processManager("reminder", { dispatches: [Account] }).on(Account, {
    Deposited: (_, { id }) => ({
      schedule: [{ in: passTime === undefined ? 1 : "1h", key: id, dispatch: Account.at(id).Remind() }],
    }),
  });
  const open = () =>
    AggregateStore.builder(directory).aggregate(Account).projection(Total).processManager(Reminder).open();

  // Two stores on one directory, as two processes have them: they meet at the lock.
  const [store, other] = [await open(), await open()];
  const handled: string[] = [];
  let hasHandledAll = (): void => {};
  const handledAll = new Promise<void>((resolve) => (hasHandledAll = resolve));
  let failures = 0;
  const subscription = store.subscribe({ onError: () => {} }, ({ type }) => {
    // The first two calls fail: a handler is tried again after a while.
    if (failures++ < 2) throw new Error("not yet");
    if (handled.push(type) === 65) hasHandledAll();
  });
  const deposits = Array.from({ length: 60 }, (_, n) =>
    (n % 2 === 0 ? store : other).dispatch(Account.at(`a${n % 5}`).Deposit({ amount: n, tags: ["x", "y"] })),
  );
  const results = await Promise.all(deposits);
  const position = Math.max(...results.map((result) => result.position));
  const attempt = await store.get(Account, "a1").try(Account.commands.Deposit({ amount: 5000, tags: [] }));
  passTime?.(2 * 3_600_000);
  // The process managers of either store remind each of the five: those events come by themselves.
  let reminders = 0;
  for await (const { type } of other.subscribe({ types: ["Reminded"] })) {
    if (type === "Reminded" && ++reminders === 5) break;
  }
  const { total } = await other.projection(Total, { after: position });
  await handledAll;
  await subscription.close();
  await Promise.all([store.close(), other.close()]);

  const again = await open();
  const { balance, reminded } = await again.get(Account, "a1").state();
  await again.close();
  return {
    balance,
    total,
    position,
    reminded,
    rejection: attempt.ok ? "none" : attempt.rejection.type,
    handled: [...new Set(handled)],
  };
}

/** What the program gives, wherever it runs. */
export const EXPECTED: Omit<ProgramResult, "position"> = {
  // 1 + 6 + 11 + … + 56
  balance: 342,
  // 0 + 1 + … + 59
  total: 1770,
  reminded: true,
  rejection: "TooMuch",
  handled: ["Deposited", "Reminded"],
};
