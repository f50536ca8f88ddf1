import * as fs from "node:fs";
import * as os from "node:os";
import { AggregateStore } from "eventfold-es";
import { jetStream } from "eventfold-es/jetstream";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { cli } from "../support/cli.ts";
import { describeNats } from "../support/nats.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit } = Account.commands;

function replicas(): string[] {
  return fs.readdirSync(os.tmpdir()).filter((name) => name.startsWith("eventfold-replica-"));
}

describeNats("the command line on JetStream", ({ urls, connect, name }) => {
  test("reads, exports and imports the store that an address names, and leaves no replica", async () => {
    const [bank, copy] = [name(), name()];
    const storage = jetStream({ connection: await connect(), name: bank, directory: temporaryDirectory() });
    const store = await AggregateStore.builder(storage).aggregate(Account).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await store.get(Account, "ada").execute(Deposit({ amount: 5 }));
    await store.close();
    const before = replicas();
    const [url, other] = [bank, copy].map((each) => `${urls[0]}/${each}`);
    const events = await cli(["events", `${url}`]);
    expect(events.out).toMatch(/account\/ada 1 {2}Opened.*\n.*account\/ada 2 {2}Deposited {2}\{"amount":5\}/);
    const file = `${temporaryDirectory()}/bank.jsonl`;
    fs.writeFileSync(file, (await cli(["export", `${url}`])).out);
    expect((await cli(["import", `${other}`, file])).code).toBe(0);
    expect((await cli(["compare", `${url}`, `${other}`])).code).toBe(0);
    expect(replicas()).toEqual(before);
  });

  test("makes no store for a name that does not exist, and asks for a name", async () => {
    const missing = await cli(["events", `${urls[0]}/${name()}`]);
    expect([missing.code, missing.err]).toEqual([3, expect.stringContaining("found no such stream")]);
    const nameless = await cli(["events", `${urls[0]}`]);
    expect([nameless.code, nameless.err]).toEqual([2, expect.stringContaining("nats://localhost:4222/bank")]);
  });
});
