import { AggregateStore, EventfoldError, isEventfoldError, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import type { Commit, CommitResult, EventStore } from "../../src/event-store/event-store.ts";
import { Account } from "../support/account.ts";
import { until } from "../support/until.ts";
import { WaitingEventStore } from "../support/waiting-event-store.ts";

/** A store whose `commit` can be replaced while it is in use. */
class FaultyCommits {
  readonly store: EventStore;
  /** Set to let the next commits with events end otherwise. */
  fault: ((commit: Commit, write: () => Promise<CommitResult>) => Promise<CommitResult>) | undefined;

  constructor(inner: EventStore) {
    const commit = (request: Commit): Promise<CommitResult> => {
      const write = (): Promise<CommitResult> => inner.commit(request);
      return this.fault === undefined ? write() : this.fault(request, write);
    };
    this.store = new Proxy(inner, {
      get(target, property) {
        if (property === "commit") return commit;
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    });
  }
}

function unknownOutcome(): EventfoldError {
  return new EventfoldError("COMMIT_UNKNOWN", "expected an answer from the server, found none");
}

function open(store: EventStore): Promise<AggregateStore<typeof Account>> {
  return AggregateStore.builder({ name: "waiting", open: async () => store })
    .aggregate(Account)
    .open();
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (error: unknown) => (isEventfoldError(error) ? error.code : String(error)),
  );
}

describe.each([{ isWritten: true }, { isWritten: false }])(
  "a commit that ends unknown, written: $isWritten",
  ({ isWritten }) => {
    /** Lets one commit with events end unknown, and breaks its chain as a store has to. */
    function loseNextAnswer(faulty: FaultyCommits): void {
      faulty.fault = async (commit, write) => {
        if (commit.appends.every(({ events }) => events.length === 0)) return write();
        faulty.fault = undefined;
        if (isWritten) await write();
        if (commit.chain !== undefined) commit.chain.broken = true;
        throw unknownOutcome();
      };
    }

    test("fails its command, and commands decided on top of it are decided again", async () => {
      const faulty = new FaultyCommits(await WaitingEventStore.open());
      await using store = await open(faulty.store);
      const ada = store.get(Account, "ada");
      await ada.execute({ type: "Open", data: { owner: "Ada" } });
      loseNextAnswer(faulty);
      const codes = await Promise.all([
        codeOf(ada.execute({ type: "Deposit", data: { amount: 100 } })),
        codeOf(ada.execute({ type: "Deposit", data: { amount: 1 } })),
        codeOf(ada.execute({ type: "Withdraw", data: { amount: 50 } })),
      ]);
      expect(codes).toEqual(["COMMIT_UNKNOWN", "done", isWritten ? "done" : "COMMAND_REJECTED"]);
      expect((await ada.state()).balance).toBe(isWritten ? 51 : 1);
    });

    test("counts once when the command is repeated with its idempotency key", async () => {
      const faulty = new FaultyCommits(await WaitingEventStore.open());
      await using store = await open(faulty.store);
      const ada = store.get(Account, "ada");
      await ada.execute({ type: "Open", data: { owner: "Ada" } });
      loseNextAnswer(faulty);
      const deposit = () => ada.execute({ type: "Deposit", data: { amount: 5 } }, { idempotencyKey: "k" });
      expect(await codeOf(deposit())).toBe("COMMIT_UNKNOWN");
      expect((await deposit()).state.balance).toBe(5);
      expect((await ada.state()).balance).toBe(5);
    });

    test("lets dispatchAll fail, and its instances load again", async () => {
      const faulty = new FaultyCommits(await WaitingEventStore.open());
      await using store = await open(faulty.store);
      await store.dispatchAll(["a", "b"].map((id) => Account.at(id).Open({ owner: id })));
      loseNextAnswer(faulty);
      const deposits = ["a", "b"].map((id) => Account.at(id).Deposit({ amount: 7 }));
      expect(await codeOf(store.dispatchAll(deposits))).toBe("COMMIT_UNKNOWN");
      for (const id of ["a", "b"]) expect((await store.get(Account, id).state()).balance).toBe(isWritten ? 7 : 0);
    });

    test("is tried again by a process manager, whose command takes effect once", async () => {
      const Mirror = processManager("mirror", { dispatches: [Account] }).on(Account, {
        Deposited: (_, { id, data }) => (id === "ada" ? Account.at("bob").Deposit({ amount: data.amount }) : undefined),
      });
      const faulty = new FaultyCommits(await WaitingEventStore.open());
      await using store = await AggregateStore.builder({ name: "waiting", open: async () => faulty.store })
        .aggregate(Account)
        .processManager(Mirror)
        .processManagerMode("manual")
        .open();
      await store.dispatchAll(["ada", "bob"].map((id) => Account.at(id).Open({ owner: id })));
      await store.get(Account, "ada").execute({ type: "Deposit", data: { amount: 3 } });
      loseNextAnswer(faulty);
      expect(await codeOf(store.runProcessManagers())).toBe("COMMIT_UNKNOWN");
      await store.runProcessManagers();
      await store.runProcessManagers();
      expect((await store.get(Account, "bob").state()).balance).toBe(3);
      expect(await store.deadLetters()).toEqual([]);
    });
  },
);

test("a store that goes on with a broken chain is found out, and nothing is written twice", async () => {
  const waiting = await WaitingEventStore.open();
  const faulty = new FaultyCommits(waiting);
  await using store = await open(faulty.store);
  const ada = store.get(Account, "ada");
  await ada.execute({ type: "Open", data: { owner: "Ada" } });
  let commits = 0;
  faulty.fault = async ({ appends }, write) => {
    commits++;
    if (commits === 1) {
      await until(() => commits === 2);
      throw unknownOutcome();
    }
    if (commits > 2) return write();
    // Writes what rests on the lost commit, in its place.
    return waiting.commit({ appends: appends.map((append) => ({ ...append, expectedVersion: 1 })) });
  };
  const [first, second] = await Promise.all([
    codeOf(ada.execute({ type: "Deposit", data: { amount: 1 } })),
    codeOf(ada.execute({ type: "Deposit", data: { amount: 2 } })),
  ]);
  expect(first).toBe("COMMIT_UNKNOWN");
  expect(second).toContain("expected the store to write no commit of a chain after one that was not written");
  expect((await ada.state()).balance).toBe(2);
});

test("a read that the server does not answer fails its command, and the next one works", async () => {
  const waiting = await WaitingEventStore.open();
  let isDown = true;
  const store = await open(
    new Proxy<EventStore>(waiting, {
      get(target, property) {
        if (property === "loadCheckpoint" && isDown)
          return () => Promise.reject(new EventfoldError("STORE_UNAVAILABLE", "expected an answer, found none"));
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    }),
  );
  const ada = store.get(Account, "ada");
  expect(await codeOf(ada.execute({ type: "Open", data: { owner: "Ada" } }))).toBe("STORE_UNAVAILABLE");
  isDown = false;
  expect(await codeOf(ada.execute({ type: "Open", data: { owner: "Ada" } }))).toBe("done");
  await store.close();
});

describe("two processes on a store that has to wait", () => {
  const Payout = processManager("payout", { dispatches: [Account] }).on(Account, {
    Closed: () => Account.at("ada").Withdraw({ amount: 50 }),
  });

  async function openTwo() {
    const here = await WaitingEventStore.open();
    const there = await WaitingEventStore.open(here.remote);
    const stores = await Promise.all(
      [here, there].map((each) =>
        AggregateStore.builder({ name: "waiting", open: async () => each })
          .aggregate(Account)
          .projection(Total)
          .processManager(Payout)
          .processManagerMode("manual")
          .open(),
      ),
    );
    const [first, second] = stores;
    if (first === undefined || second === undefined) throw new Error("two stores were opened");
    return { here, there, first, second };
  }

  const Total = projection("total", { total: 0 }).on(Account, {
    Deposited: (state, { data }) => void (state.total += data.amount),
  });

  test("no dead letter rests on a state from before the other one's commit", async () => {
    const { first, second } = await openTwo();
    await first.dispatchAll(["ada", "bob"].map((id) => Account.at(id).Open({ owner: id })));
    await first.get(Account, "ada").state();
    await second.get(Account, "ada").execute({ type: "Deposit", data: { amount: 100 } });
    await second.get(Account, "bob").execute({ type: "Close" });
    expect(await first.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await first.deadLetters()).toEqual([]);
    expect((await second.get(Account, "ada").state()).balance).toBe(50);
    await first.close();
    await second.close();
  });

  test("no rejection of dispatchAll rests on a state from before the other one's commit", async () => {
    const { first, second } = await openTwo();
    await first.dispatchAll(["ada", "bob"].map((id) => Account.at(id).Open({ owner: id })));
    await second.get(Account, "ada").execute({ type: "Deposit", data: { amount: 100 } });
    const commands = [Account.at("ada").Withdraw({ amount: 30 }), Account.at("bob").Deposit({ amount: 30 })];
    expect(await codeOf(first.dispatchAll(commands))).toBe("done");
    expect((await first.get(Account, "ada").state()).balance).toBe(70);
    await first.close();
    await second.close();
  });

  test("projections, subscriptions and lists see the other one's commits", async () => {
    const { first, second } = await openTwo();
    const seen: string[] = [];
    const subscription = first.subscribe({}, ({ type }) => void seen.push(type));
    await second.get(Account, "ada").execute({ type: "Open", data: { owner: "Ada" } });
    const { position } = await second.get(Account, "ada").execute({ type: "Deposit", data: { amount: 4 } });
    expect((await first.projection(Total)).total).toBe(4);
    const later = first.projection(Total, { after: position + 1 });
    await second.get(Account, "ada").execute({ type: "Deposit", data: { amount: 5 } });
    expect((await later).total).toBe(9);
    await until(() => seen.length === 3);
    expect(seen).toEqual(["Opened", "Deposited", "Deposited"]);
    expect(await first.list(Account)).toEqual(["ada"]);
    await subscription.close();
    await first.close();
    await second.close();
  });
});
