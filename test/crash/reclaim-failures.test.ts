import { AggregateStore } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { SimulatedDisk } from "eventfold-es/testing";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { breakFileSystem } from "../support/broken-file-system.ts";
import { collect } from "../support/collect.ts";

const open = (fileSystem: Parameters<ReturnType<typeof AggregateStore.builder>["fileSystem"]>[0]) =>
  AggregateStore.builder("/store").aggregate(Account).fileSystem(fileSystem).open();

/** A disk with a store that has something to reclaim. */
async function filled(): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk();
  const store = await open(disk.process());
  for (const id of ["ada", "bob"]) {
    await store.get(Account, id).execute(Account.commands.Open({ owner: id.repeat(300) }));
    await store.get(Account, id).execute(Account.commands.Deposit({ amount: 5 }));
  }
  await store.delete(Account, "ada");
  await store.close();
  return disk;
}

test.each(["ENOSPC", "EIO"])(
  "each write of reclaim that fails with %s loses nothing, and the next call goes on",
  async (code) => {
    for (let failing = 1, isOver = false; !isOver; failing++) {
      const disk = await filled();
      let writes = -Infinity;
      const fail = (): void => {
        if (++writes === failing) throw Object.assign(new Error(code), { code });
      };
      const process = disk.process();
      const broken = breakFileSystem(
        process,
        {
          rename: (from, to) => {
            fail();
            process.rename(from, to);
          },
          syncDirectory: async (path) => {
            fail();
            await process.syncDirectory(path);
          },
        },
        (file) => ({
          write: (...write) => {
            fail();
            file.write(...write);
          },
          flush: async () => {
            fail();
            await file.flush();
          },
        }),
      );
      await using store = await open(broken);
      const expected = await collect(store.events());
      writes = 0;
      const outcome = await store.reclaim().then(
        () => "done",
        (error: unknown) => (error as { readonly code?: string }).code,
      );
      isOver = writes < failing;
      writes = -Infinity;
      if (!isOver) expect(["DISK_FULL", "IO_ERROR", "done"], `write ${failing}`).toContain(outcome);
      expect(await collect(store.events()), `write ${failing}`).toEqual(expected);
      expect(await store.reclaim()).toMatchObject({ done: true });
      expect(await store.get(Account, "bob").execute(Account.commands.Deposit({ amount: 1 }))).toMatchObject({
        state: { balance: 6 },
      });
      expect((await collect(store.events())).slice(0, expected.length)).toEqual(expected);
      for (const path of disk.files())
        if (!path.endsWith(".gz"))
          expect(Buffer.from(disk.bytesOf(path) ?? []).includes("adaada"), `${path}, write ${failing}`).toBe(false);
      const { findings } = await verify("/store", { fileSystem: disk.process() });
      expect(
        findings.filter(({ severity }) => severity === "error"),
        `write ${failing}`,
      ).toEqual([]);
    }
  },
);
