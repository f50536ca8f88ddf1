import { AggregateStore, projection } from "eventfold-es";
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Total = projection("total", { total: 0 }).on(Account, {
  Deposited: (state, { data }) => ({ total: state.total + data.amount }),
});

/** The time is always the same, so records of different stores have the same lengths, and begin at the same bytes. */
function builder(directory: string) {
  return AggregateStore.builder(directory)
    .aggregate(Account)
    .projection(Total)
    .clock(() => 1_795_415_061_123);
}

/** Every file below a directory, with its bytes. Follows no links. */
function filesOf(directory: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of fs.readdirSync(directory, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path.relative(directory, file), fs.readFileSync(file).toString("latin1"));
  }
  return files;
}

/** A store with one account, closed. */
async function storeWith(directory: string, owner: string, deposits: number): Promise<void> {
  const store = await builder(directory).open();
  const ada = store.get(Account, "ada");
  await ada.execute({ type: "Open", data: { owner } });
  for (let n = 0; n < deposits; n++) await ada.execute({ type: "Deposit", data: { amount: 1 } });
  await store.close();
}

function overwriteInPlace(from: string, to: string): void {
  for (const [file, bytes] of filesOf(from)) {
    fs.mkdirSync(path.dirname(path.join(to, file)), { recursive: true });
    fs.writeFileSync(path.join(to, file), bytes, "latin1");
  }
}

interface Place {
  /** What the store was opened with. */
  readonly directory: string;
  /** A backup that was taken when the store had fewer events. */
  readonly backup: string;
  /** The backup of another store, which has more events. */
  readonly other: string;
  readonly elsewhere: string;
}

/** Each leaves files that are not those of the open store. */
const REPLACEMENTS: readonly { readonly name: string; readonly replace: (place: Place) => void }[] = [
  {
    name: "the directory is deleted",
    replace: ({ directory }) => fs.rmSync(fs.realpathSync(directory), { recursive: true }),
  },
  {
    name: "the directory is moved",
    replace: ({ directory, elsewhere }) => fs.renameSync(fs.realpathSync(directory), elsewhere),
  },
  {
    name: "the directory is moved, and a backup is restored",
    replace: ({ directory, elsewhere, backup }) => {
      const real = fs.realpathSync(directory);
      fs.renameSync(real, elsewhere);
      fs.cpSync(backup, real, { recursive: true });
    },
  },
  {
    name: "the directory is moved, and another store with more events takes its place",
    replace: ({ directory, elsewhere, other }) => {
      const real = fs.realpathSync(directory);
      fs.renameSync(real, elsewhere);
      fs.cpSync(other, real, { recursive: true });
    },
  },
  {
    name: "the symbolic link at the path is switched",
    replace: ({ directory, backup }) => {
      fs.unlinkSync(directory);
      fs.symlinkSync(backup, directory);
    },
  },
  {
    name: "only the commit log is replaced",
    replace: ({ directory, elsewhere, backup }) => {
      fs.renameSync(path.join(directory, "commit_log"), elsewhere);
      fs.cpSync(path.join(backup, "commit_log"), path.join(directory, "commit_log"), { recursive: true });
    },
  },
  {
    name: "only the segment is replaced by a file with its name and content",
    replace: ({ directory }) => {
      const segment = path.join(directory, "commit_log", "0000000000000001.jsonl");
      fs.copyFileSync(segment, `${segment}.copy`);
      fs.renameSync(`${segment}.copy`, segment);
    },
  },
  {
    name: "only meta is replaced",
    replace: ({ directory, elsewhere, backup }) => {
      fs.renameSync(path.join(directory, "meta"), elsewhere);
      fs.cpSync(path.join(backup, "meta"), path.join(directory, "meta"), { recursive: true });
    },
  },
  {
    name: "a backup is copied over the files, which keep their inodes",
    replace: ({ directory, backup }) => overwriteInPlace(backup, directory),
  },
  {
    name: "another store with more events is copied over the files",
    replace: ({ directory, other }) => overwriteInPlace(other, directory),
  },
];

async function openPlace(): Promise<Place> {
  const parent = temporaryDirectory();
  const [real, backup, other] = ["real", "backup", "other"].map((name) => path.join(parent, name)) as [
    string,
    string,
    string,
  ];
  await storeWith(real, "Ada", 2);
  fs.cpSync(real, backup, { recursive: true });
  await storeWith(other, "Bob", 20);
  const directory = path.join(parent, "store");
  fs.symlinkSync(real, directory);
  return { directory, backup, other, elsewhere: path.join(parent, "elsewhere") };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "no error",
    (error: Error & { readonly code?: string }) => error.code ?? error.message,
  );
}

/** A read may be answered from the files that were opened for 100 ms more. */
async function codeInTime(work: () => Promise<unknown>): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const code = await codeOf(work());
    if (code !== "no error") return code;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return "no error";
}

describe.each(REPLACEMENTS)("when $name", ({ replace }) => {
  test("commands fail and nothing is written to the new files", async () => {
    const place = await openPlace();
    const store = await builder(place.directory).open();
    const ada = store.get(Account, "ada");
    await ada.execute({ type: "Deposit", data: { amount: 1 } });
    replace(place);
    const left = fs.existsSync(place.directory) ? filesOf(fs.realpathSync(place.directory)) : new Map<string, string>();
    expect(await codeOf(ada.execute({ type: "Deposit", data: { amount: 1000 } }))).toBe("STORE_REPLACED");
    expect(await codeOf(store.get(Account, "bob").execute({ type: "Open", data: { owner: "Bob" } }))).toBe(
      "STORE_REPLACED",
    );
    await store.close().catch(() => {});
    expect(fs.existsSync(place.directory) ? filesOf(fs.realpathSync(place.directory)) : new Map()).toEqual(left);
  });

  test("reads fail within a bounded time", async () => {
    const place = await openPlace();
    const store = await builder(place.directory).open();
    await store.get(Account, "ada").execute({ type: "Deposit", data: { amount: 1 } });
    replace(place);
    expect(await codeInTime(() => store.projection(Total))).toBe("STORE_REPLACED");
    expect(await codeOf(store.get(Account, "ada").state())).toBe("STORE_REPLACED");
    await store.close().catch(() => {});
  });
});

test("a store whose directory was moved away and back goes on", async () => {
  const place = await openPlace();
  await using store = await builder(place.directory).open();
  const ada = store.get(Account, "ada");
  const real = fs.realpathSync(place.directory);
  fs.renameSync(real, place.elsewhere);
  expect(await codeOf(ada.execute({ type: "Deposit", data: { amount: 1 } }))).toBe("STORE_REPLACED");
  fs.renameSync(place.elsewhere, real);
  expect((await ada.execute({ type: "Deposit", data: { amount: 1 } })).state.balance).toBe(3);
});

test("a stream whose directory was replaced is reported, and other streams go on", async () => {
  const place = await openPlace();
  await using store = await builder(place.directory).open();
  const ada = store.get(Account, "ada");
  await ada.execute({ type: "Deposit", data: { amount: 1 } });
  fs.renameSync(path.join(place.directory, "streams/account/ada"), place.elsewhere);
  fs.cpSync(path.join(place.backup, "streams/account/ada"), path.join(place.directory, "streams/account/ada"), {
    recursive: true,
  });
  expect(await codeInTime(() => ada.execute({ type: "Deposit", data: { amount: 1 } }))).toBe("CORRUPT_STREAM");
  expect((await store.get(Account, "bob").execute({ type: "Open", data: { owner: "Bob" } })).version).toBe(1);
});
