import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const IDS = [
  ["../x", "../../x", "/etc/x", "a/b", "a/../b", "a\\b", "..\\x", ".", "..", "...", "a.", "a", "a ", " a", " "],
  ["CON", "con", "CON.txt", "nul", "COM1", "LPT¹", "CONSOLE", "a:b", "a*b", 'a"b', "<a>", "a|b", "a?"],
  ["%", "%41", "A", "%25", "%%", "a%2Fb", "%.", "%a", "\u00e9", "e\u0301", "\u0000", "a\u0000b", "\n", "\t", "\u007f"],
  [
    "🦀",
    "日本",
    "größe",
    "__proto__",
    "constructor",
    "toString",
    "app.jsonl",
    "views",
    "i".repeat(255),
    "é".repeat(127),
  ],
  ["\uff21", "\ufb01", "fi", "\u200d", "\u2028", "\u{10ffff}", "\ue000", "\ufeffa", "-", "--help", "~", "$HOME"],
].flat();

function byCodePoints(ids: readonly string[]): string[] {
  return [...ids].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

describe("ids", () => {
  test("any non-empty text is an id: it gets one directory, inside the store, and comes back unchanged", async () => {
    const parent = temporaryDirectory();
    const directory = path.join(parent, "a", "b", "store");
    const store = await AggregateStore.builder(directory).aggregate(Account).open();
    await Promise.all(IDS.map((id) => store.get(Account, id).execute({ type: "Open", data: { owner: id } })));
    await Promise.all(IDS.map((id, n) => store.get(Account, id).execute({ type: "Deposit", data: { amount: n } })));
    expect(await store.list(Account)).toEqual(byCodePoints(IDS));
    await store.close();

    expect(fs.readdirSync(parent)).toEqual(["a"]);
    expect(fs.readdirSync(path.join(parent, "a"))).toEqual(["b"]);
    expect(fs.readdirSync(path.join(parent, "a", "b"))).toEqual(["store"]);
    expect(fs.readdirSync(directory).sort()).toEqual(["commit_log", "meta", "streams"]);
    expect(fs.readdirSync(path.join(directory, "streams"))).toEqual(["account"]);
    const directories = fs.readdirSync(path.join(directory, "streams", "account"));
    expect(directories).toHaveLength(IDS.length);
    for (const name of directories)
      expect(fs.readdirSync(path.join(directory, "streams", "account", name))).toEqual(["app.jsonl"]);

    for (const lost of [[], ["commit_log"], ["meta"], ["meta", "commit_log"]]) {
      for (const name of lost) fs.rmSync(path.join(directory, name), { recursive: true });
      await using again = await AggregateStore.builder(directory).aggregate(Account).open();
      expect(await again.list(Account)).toEqual(byCodePoints(IDS));
      for (const [n, id] of IDS.entries()) {
        expect((await again.get(Account, id).state()).balance).toBe(n);
        for await (const event of again.readEvents("account", id)) {
          expect(event.id).toBe(id);
          if (event.type === "Opened") expect(event.data).toEqual({ owner: id });
        }
      }
    }
  });

  test("names that are safe on every system are directories unchanged", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    const safe = ["größe-日本-🦀", "order.2024.v1", "with space", "a%b", "__proto__"];
    for (const id of safe) await store.get(Account, id).execute({ type: "Open", data: { owner: id } });
    expect(byCodePoints(fs.readdirSync(path.join(directory, "streams/account")))).toEqual(byCodePoints(safe));
  });

  test("no name that Windows or macOS would change becomes a directory unchanged", async () => {
    const directory = temporaryDirectory();
    const store = await AggregateStore.builder(directory).aggregate(Account).open();
    for (const id of IDS) await store.get(Account, id).execute({ type: "Open", data: { owner: id } });
    await store.close();
    for (const name of fs.readdirSync(path.join(directory, "streams/account"))) {
      expect(name).not.toMatch(/[\u0000-\u001f/\\:*?"<>|]|[. ]$/u);
      expect(name).not.toMatch(/^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i);
      expect(name.normalize("NFC")).toBe(name);
    }
  });

  test.each([
    ["an empty text", "", "INVALID_ID"],
    ["half of a surrogate pair", "a\ud800", "INVALID_ID"],
    ["the other half", "\udc00b", "INVALID_ID"],
    ["300 characters", "i".repeat(300), "ID_TOO_LONG"],
    ["256 bytes", `${"é".repeat(128)}`, "ID_TOO_LONG"],
    ["too long when escaped", "/".repeat(100), "ID_TOO_LONG"],
  ])("%s is refused and touches nothing", async (_, id, code) => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    expect(() => store.get(Account, id)).toThrow(expect.objectContaining({ code }));
    await expect(store.dispatch(Account.at(id).Open({ owner: "Ada" }))).rejects.toMatchObject({ code });
    await expect(
      store.dispatchAll([Account.at("a").Open({ owner: "Ada" }), Account.at(id).Close()]),
    ).rejects.toMatchObject({
      code,
    });
    await expect(store.readEvents("account", id)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code });
    expect(await store.listStreams()).toEqual([]);
    expect(fs.readdirSync(path.join(directory, "streams"))).toEqual([]);
  });

  test.each(["../x", "a/b", "..", "", "CON", "a\u0000b"])(
    "reading the events of type %j stays inside",
    async (type) => {
      const parent = temporaryDirectory();
      const outside = path.join(parent, "x", "victim");
      fs.mkdirSync(outside, { recursive: true });
      fs.writeFileSync(path.join(outside, "app.jsonl"), '{"type":"Secret","data":null,"ts":1}\n');
      await using store = await AggregateStore.builder(path.join(parent, "base", "store"))
        .aggregate(Account)
        .open();
      for (const name of [type, `../../../${type}`]) {
        const read = async (): Promise<unknown[]> => {
          const events: unknown[] = [];
          for await (const event of store.readEvents(name, "victim")) events.push(event);
          return events;
        };
        await expect(read().catch(() => [])).resolves.toEqual([]);
      }
      expect(fs.readdirSync(parent).sort()).toEqual(["base", "x"]);
    },
  );
});
