import { AggregateStore, projection } from "eventfold-es";
import { Account } from "./account.ts";

const Totals = projection("totals", () => ({ accounts: 0, balance: 0 })).on(Account, {
  Opened: (state) => void state.accounts++,
  Deposited: (state, { data: { amount } }) => void (state.balance += amount),
});

/** Works with more instances than the process may have files open, and prints what it found. Arguments: directory. */
const [directory = ""] = process.argv.slice(2);
const open = () => AggregateStore.builder(directory).aggregate(Account).projection(Totals).open();
const name = (n: number): string => `account-${n}`;

let store = await open();
for (let n = 0; n < 1000; n++) {
  const account = store.get(Account, name(n));
  await account.execute(Account.commands.Open({ owner: "Ada" }));
  await account.execute(Account.commands.Deposit({ amount: 1 }));
}
await Promise.all(
  Array.from({ length: 500 }, (_, n) => store.get(Account, name(n)).execute(Account.commands.Deposit({ amount: 1 }))),
);
const one = (await store.projection(Totals)).balance;
await store.close();

store = await open();
const states = await Promise.all(Array.from({ length: 1000 }, (_, n) => store.get(Account, name(n)).state()));
await Promise.all(
  Array.from({ length: 500 }, (_, n) =>
    store.get(Account, name(500 + n)).execute(Account.commands.Deposit({ amount: 1 })),
  ),
);
await store.dispatchAll(Array.from({ length: 40 }, (_, n) => Account.at(name(n)).Deposit({ amount: 1 })));
const readers = Array.from({ length: 300 }, (_, n) => store.readEvents("account", name(n))[Symbol.asyncIterator]());
const firsts = await Promise.all(readers.map(async (reader) => (await reader.next()).done));
await store.rebuildProjection(Totals);
const { accounts, balance } = await store.projection(Totals);
for (const reader of readers) await reader.return?.();
await store.close();

const stores = await Promise.all(
  ["x", "y", "z"].map((place) => AggregateStore.builder(`${directory}/${place}`).aggregate(Account).open()),
);
const outcomes = await Promise.all(
  stores.flatMap((each) =>
    Array.from({ length: 30 }, (_, n) => each.dispatch(Account.at(name(n)).Open({ owner: "Ada" }))),
  ),
);
await Promise.all(stores.map((each) => each.close()));
console.log(
  JSON.stringify({
    one,
    states: states.reduce((sum, state) => sum + state.balance, 0),
    read: firsts.filter((done) => done === false).length,
    accounts,
    balance,
    together: outcomes.length,
  }),
);
