import { AggregateStore, type EventfoldError } from "eventfold-es";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as fs from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { lockHolders } from "../../src/fs/lock-holders.ts";
import { TIMES_AGAIN } from "../../src/file-store/disk/store-lock.ts";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";
import { Worker } from "../support/worker.ts";

/** Starts a process that has the lock and is stopped. */
async function stoppedHolder(path: string): Promise<Worker> {
  const worker = new Worker("lock-worker.ts", { path });
  expect(await worker.line()).toBe("locked");
  worker.process.kill("SIGSTOP");
  await until(() => lockHolders(path).holders[0]?.state === "stopped");
  return worker;
}

async function openedBank(directory: string, lockTimeout: number) {
  const store = await AggregateStore.builder(directory).aggregate(Account).lockTimeout(lockTimeout).open();
  onTestFinished(() => store.close());
  const ada = store.get(Account, "ada");
  await ada.execute({ type: "Open", data: { owner: "Ada" } });
  return { store, ada };
}

const deposit = (amount: number) => ({ type: "Deposit", data: { amount } }) as const;

function notices(channel: string): unknown[] {
  const found: unknown[] = [];
  const listener = (message: unknown): void => void found.push(message);
  subscribe(channel, listener);
  onTestFinished(() => void unsubscribe(channel, listener));
  return found;
}

describe.runIf(process.platform === "linux")("a process that is stopped while it has a lock of the store", () => {
  test.each(["lock", "turn"])("is named to the commands that wait for meta/%s, which are not written", async (file) => {
    const directory = temporaryDirectory();
    const { store, ada } = await openedBank(directory, 100);
    const worker = await stoppedHolder(`${directory}/meta/${file}`);
    let failed: EventfoldError | undefined;
    let written = 0;
    // Without the turnstile, a process takes the lock again a few times.
    for (; failed === undefined && written <= TIMES_AGAIN; written++)
      failed = await ada.execute(deposit(1)).then(
        () => undefined,
        (error: EventfoldError) => error,
      );
    written--;
    expect(failed).toMatchObject({ code: "STORE_BUSY" });
    expect(failed?.message).toContain(`process ${worker.process.pid} (node) has it and is stopped`);
    expect(failed?.message).toContain(`kill -CONT ${worker.process.pid}`);
    if (file === "lock") expect(written).toBe(0);
    worker.process.kill("SIGCONT");
    worker.send("release");
    await worker.exited;
    expect((await ada.execute(deposit(2))).state.balance).toBe(written + 2);
    expect(await store.head()).toBe(written + 2);
  });

  test("is named on a channel while the commands wait, which go on when it is resumed", async () => {
    const directory = temporaryDirectory();
    const { ada } = await openedBank(directory, 600_000);
    const worker = await stoppedHolder(`${directory}/meta/lock`);
    const waits = notices("eventfold-es:lock-wait");
    const answers = [ada.execute(deposit(1)), ada.execute(deposit(2))];
    await until(() => waits.length > 0, 60_000);
    expect(waits).toEqual([
      expect.objectContaining({
        directory,
        pid: worker.process.pid,
        command: "node",
        state: "stopped",
        unknown: undefined,
      }),
    ]);
    expect(await ada.state()).toMatchObject({ balance: 0 });
    worker.process.kill("SIGCONT");
    worker.send("release");
    await Promise.all(answers);
    expect(await ada.state()).toMatchObject({ balance: 3 });
  });

  test("is named to those who open the store", async () => {
    const directory = temporaryDirectory();
    const { store } = await openedBank(directory, 100);
    await store.close();
    const worker = await stoppedHolder(`${directory}/meta/lock`);
    await expect(AggregateStore.builder(directory).lockTimeout("100ms").open()).rejects.toMatchObject({
      code: "STORE_BUSY",
      message: expect.stringContaining(`process ${worker.process.pid} (node) has it and is stopped`) as string,
    });
  });

  test("is named to the commands of an instance whose file it has locked", async () => {
    const directory = temporaryDirectory();
    const { ada } = await openedBank(directory, 100);
    const worker = await stoppedHolder(`${directory}/streams/account/ada/app.jsonl`);
    await expect(ada.execute(deposit(1))).rejects.toMatchObject({
      code: "STREAM_LOCKED",
      message: expect.stringContaining(`process ${worker.process.pid} (node) has it and is stopped`) as string,
    });
  });

  test("and is ended lets the commands that wait go on", async () => {
    const directory = temporaryDirectory();
    const { ada } = await openedBank(directory, 600_000);
    const worker = await stoppedHolder(`${directory}/meta/lock`);
    const answer = ada.execute(deposit(1));
    await worker.kill();
    expect((await answer).state.balance).toBe(1);
  });
});

test("where the system does not list locks, the error says so", async () => {
  const directory = temporaryDirectory();
  const path = `${directory}/some-lock`;
  fs.writeFileSync(path, "");
  expect(lockHolders(path, `${directory}/proc`)).toEqual({
    holders: [],
    unknown: expect.stringContaining(`${directory}/proc/locks could not be read (ENOENT)`) as string,
  });
});

test("a lock of a process that the system does not show is not blamed on another one", () => {
  const directory = temporaryDirectory();
  const path = `${directory}/some-lock`;
  fs.writeFileSync(path, "");
  const { ino } = fs.statSync(path);
  fs.mkdirSync(`${directory}/proc`);
  const lines = [
    `1: POSIX  ADVISORY  WRITE 11 fe:00:${ino} 0 EOF`,
    `2: FLOCK  ADVISORY  WRITE 12 ff:7f:${ino} 0 EOF`,
    `3: FLOCK  ADVISORY  WRITE 13 fe:00:${ino}1 0 EOF`,
    `3: -> FLOCK  ADVISORY  WRITE 14 fe:00:${ino} 0 EOF`,
  ];
  fs.writeFileSync(`${directory}/proc/locks`, `${lines.join("\n")}\n`);
  expect(lockHolders(path, `${directory}/proc`)).toEqual({
    holders: [],
    unknown: expect.stringContaining("in another container or on another machine") as string,
  });
});

test("a command's name may contain parentheses", () => {
  const directory = temporaryDirectory();
  const path = `${directory}/some-lock`;
  fs.writeFileSync(path, "");
  const { ino, dev } = fs.statSync(path);
  fs.mkdirSync(`${directory}/proc/77`, { recursive: true });
  const device = `${(dev >> 8).toString(16).padStart(2, "0")}:${(dev & 0xff).toString(16).padStart(2, "0")}`;
  fs.writeFileSync(`${directory}/proc/locks`, `1: FLOCK  ADVISORY  WRITE 77 ${device}:${ino} 0 EOF\n`);
  fs.writeFileSync(`${directory}/proc/77/stat`, "77 (a) b) D 1 77 77 0 -1");
  fs.writeFileSync(`${directory}/proc/77/cmdline`, "");
  expect(lockHolders(path, `${directory}/proc`).holders).toEqual([
    { pid: 77, command: "a) b", state: "waiting for a disk" },
  ]);
});
