/** The auditor: reads the log event by event, keeps books of its own, and writes down whatever must not be. */
import type { EventStorage, RecordedEventOf } from "eventfold-es";
import { Account } from "./account.ts";
import { type Bank, openBank, type Work } from "./bank.ts";
import { FIRST_BALANCE, orderOf, transferId } from "./customers.ts";
import { Ledger } from "./ledger.ts";
import { Transfer } from "./transfer.ts";

type AccountEvent = RecordedEventOf<typeof Account>;
type TransferEvent = RecordedEventOf<typeof Transfer>;

/** Where a transfer's money is. */
type Place = "sender" | "transit" | "receiver" | "back";
type Story = {
  readonly from: string;
  readonly to: string;
  readonly amount: number;
  place: Place;
  end?: "completed" | "returned" | "failed";
};

export type Findings = {
  readonly events: number;
  readonly transfers: number;
  readonly completed: number;
  readonly returned: number;
  readonly failed: number;
  /** In accounts and in transit, in cents: the same at every position once all accounts are open. */
  readonly money: number;
  readonly problems: readonly string[];
};

type Problem = (what: string) => void;

class Books {
  readonly problems: string[] = [];
  readonly transfers = new Map<string, Story>();
  readonly balances = new Map<string, number>();
  /** The sum of all payments from outside. */
  money = 0;
  position = 0;
  readonly #versions = new Map<string, number>();
  readonly #causes = new Map<string, number>();
  #inAccounts = 0;
  /** The sum of what transfers in transit carry: told by the transfers' stories, not by the accounts' balances. */
  #inTransit = 0;

  see(event: AccountEvent | TransferEvent): void {
    const { position, aggregate, id, version, causationId } = event;
    const problem: Problem = (what) =>
      void this.problems.push(`position ${position}, ${event.type} of ${aggregate} ${id}: ${what}`);

    if (position !== this.position + 1) problem(`follows position ${this.position}`);
    this.position = position;
    const stream = `${aggregate} ${id}`;
    const before = this.#versions.get(stream) ?? 0;
    if (version !== before + 1) problem(`version ${version} follows version ${before}`);
    this.#versions.set(stream, version);
    // In this bank, an event leads to one command at most (a time-out is cancelled or comes alone), and a command to one event.
    if (causationId !== undefined) {
      const twin = this.#causes.get(causationId);
      if (twin !== undefined) problem(`its cause has led to another event already, at position ${twin}`);
      this.#causes.set(causationId, position);
    }

    if (event.aggregate === "account") this.#account(event, problem);
    else this.#transfer(event, problem);
    if (this.#inAccounts + this.#inTransit !== this.money)
      problem(`${this.#inAccounts} in accounts and ${this.#inTransit} in transit are not ${this.money}`);
  }

  #account(event: AccountEvent, problem: Problem): void {
    // The bank deletes no account.
    if (event.type === "Closed" || event.type === "$deleted") return;
    if (event.type === "Opened") {
      if (this.balances.has(event.id)) problem("it is open already");
      this.balances.set(event.id, 0);
      this.money += event.data.balance;
      this.#book(event.id, event.data.balance, problem);
      return;
    }
    const story = this.transfers.get(event.data.transfer);
    if (story === undefined) return problem(`there is no transfer ${event.data.transfer}`);
    const isReceiver = event.type === "Deposited" || event.type === "DepositRefused";
    if (event.id !== (isReceiver ? story.to : story.from)) problem("the transfer does not concern this account");
    if (event.data.amount !== story.amount) problem(`the transfer is about ${story.amount}, not ${event.data.amount}`);
    switch (event.type) {
      case "Withdrawn":
        this.#move(story, "sender", "transit", problem);
        this.#book(event.id, -event.data.amount, problem);
        break;
      case "Deposited":
        this.#move(story, "transit", "receiver", problem);
        this.#book(event.id, event.data.amount, problem);
        break;
      case "Refunded":
        this.#move(story, "transit", "back", problem);
        this.#book(event.id, event.data.amount, problem);
        break;
      case "WithdrawalRefused":
        this.#move(story, "sender", "sender", problem);
        break;
      case "DepositRefused":
        this.#move(story, "transit", "transit", problem);
    }
  }

  #book(account: string, amount: number, problem: Problem): void {
    const balance = (this.balances.get(account) ?? 0) + amount;
    if (balance < 0) problem(`the balance is ${balance}`);
    this.balances.set(account, balance);
    this.#inAccounts += amount;
  }

  #move(story: Story, from: Place, to: Place, problem: Problem): void {
    if (story.place !== from) problem(`the money is at: ${story.place}, not ${from}`);
    if (story.place === "transit") this.#inTransit -= story.amount;
    if (to === "transit") this.#inTransit += story.amount;
    story.place = to;
  }

  #transfer(event: TransferEvent, problem: Problem): void {
    if (event.type === "Requested") {
      if (this.transfers.has(event.id)) problem("it was requested before");
      const { from, to, amount } = event.data;
      this.transfers.set(event.id, { from, to, amount, place: "sender" });
      return;
    }
    const story = this.transfers.get(event.id);
    if (story === undefined) return problem("it was never requested");
    if (story.end !== undefined) problem(`it is ${story.end} already`);
    const end = (end: NonNullable<Story["end"]>, place: Place): void => {
      story.end = end;
      if (story.place !== place) problem(`the money is at: ${story.place}, not ${place}`);
    };
    if (event.type === "Completed") end("completed", "receiver");
    else if (event.type === "Returned") end("returned", "back");
    else if (event.type === "Failed") end("failed", "sender");
    else if (story.place !== "transit") problem(`the money is at: ${story.place}, not in transit`);
  }
}

/** Audits a bank at rest, whose work is done: the whole log, every stream, the states, the ledger and the dead letters. */
export async function audit(storage: string | EventStorage, { transfers, accounts }: Work): Promise<Findings> {
  await using bank = await openBank(storage, "manual");
  const books = new Books();
  const { problems } = books;
  await readLog(bank, books);

  const run = await bank.runProcessManagers();
  if (run.dispatched + run.deadLettered > 0) problems.push(`it is not at rest: ${JSON.stringify(run)}`);
  // A no is an event here, so there is no rule that explains one.
  for (const { key, error } of await bank.deadLetters()) problems.push(`dead letter ${key}: ${error}`);

  const ends = { completed: 0, returned: 0, failed: 0 };
  for (let n = 0; n < transfers; n++) {
    const id = transferId(n);
    const story = books.transfers.get(id);
    if (story?.end === undefined) {
      problems.push(`transfer ${id} is not settled`);
      continue;
    }
    ends[story.end] += 1;
    const { from, to, amount } = orderOf(n, accounts);
    if (story.from !== from || story.to !== to || story.amount !== amount)
      problems.push(`transfer ${id} is not what was asked for`);
    const { status } = await bank.get(Transfer, id).state();
    if (status !== story.end) problems.push(`transfer ${id} says ${status}, and its events ${story.end}`);
  }
  if (books.transfers.size !== transfers) problems.push(`${books.transfers.size} transfers, not ${transfers}`);

  for (const [id, balance] of books.balances) {
    const state = await bank.get(Account, id).state();
    if (state.balance !== balance) problems.push(`account ${id} says ${state.balance}, and its events ${balance}`);
  }
  if (books.money !== accounts * FIRST_BALANCE) problems.push(`${books.money} was paid in`);
  const { inAccounts, inTransit, completed } = await bank.projection(Ledger);
  if (inAccounts !== books.money || inTransit !== 0 || completed !== ends.completed)
    problems.push(`the ledger differs: ${JSON.stringify({ inAccounts, inTransit, completed })}`);
  return { events: books.position, transfers: books.transfers.size, ...ends, money: books.money, problems };
}

/** Shows the books every event of the log, and compares the log with the streams' own files. */
async function readLog(bank: Bank, books: Books): Promise<void> {
  const inStreams = new Map<number, string>();
  for (const { type, id } of await bank.listStreams())
    for await (const { position, eventId } of bank.readEvents(type, id)) inStreams.set(position, eventId);
  const last = Math.max(...inStreams.keys());
  // A log that ends before the streams do must not keep us waiting for what never comes.
  const signal = AbortSignal.timeout(120_000);
  for await (const event of bank.subscribe({ signal })) {
    books.see(event);
    if (inStreams.get(event.position) !== event.eventId)
      books.problems.push(`position ${event.position}: log and stream have different events`);
    if (event.position >= last) break;
  }
  if (books.position !== inStreams.size)
    books.problems.push(`the log ends at position ${books.position}; the streams have ${inStreams.size} events`);
}
