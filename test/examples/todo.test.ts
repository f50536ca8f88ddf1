import { describe, expect, test } from "vitest";
import { Example } from "../support/example.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe("example: the to-do list", () => {
  function terminal(directory: string) {
    const start = (...args: string[]) => new Example("todo", "--directory", `${directory}/todo`, ...args);
    const run = async (...args: string[]) => {
      const todo = start(...args);
      return { code: await todo.exited, out: todo.out, errors: todo.errors };
    };
    return { start, run };
  }
  const printed = (...lines: string[]) => ({ code: 0, out: lines.map((line) => `${line}\n`).join(""), errors: "" });

  test("adds and finishes items, and keeps them for the next process", async () => {
    const { run } = terminal(temporaryDirectory());
    expect(await run("list")).toEqual(printed("0 of 0 left to do"));
    expect(await run("add", "buy", "milk")).toEqual(printed("  1 [ ] buy milk", "1 of 1 left to do"));
    expect(await run("add", "call Ada")).toMatchObject({ code: 0 });
    const finished = printed("  1 [ ] buy milk", "  2 [x] call Ada", "1 of 2 left to do");
    expect(await run("done", "2")).toEqual(finished);
    expect(await run("list")).toEqual(finished);
  });

  test("says why a command is rejected, and changes nothing", async () => {
    const { run } = terminal(temporaryDirectory());
    await run("add", "buy milk");
    await run("done", "1");
    const refused = (errors: string) => ({ code: 1, out: "", errors: `${errors}\n` });
    expect(await run("done", "1")).toEqual(refused("Item 1 is done already: buy milk"));
    expect(await run("done", "2")).toEqual(refused("There is no item 2."));
    expect(await run("add", " ")).toEqual(refused("An item needs a text."));
    expect(await run("list")).toEqual(printed("  1 [x] buy milk", "0 of 1 left to do"));
  });

  test.each([
    { args: [], first: "usage: todo" },
    { args: ["remove", "1"], first: "usage: todo" },
    { args: ["list", "all"], first: "usage: todo" },
    { args: ["done"], first: 'done expects the number of an item, found ""' },
    { args: ["done", "milk"], first: 'done expects the number of an item, found "milk"' },
    { args: ["list", "--wach"], first: "Unknown option '--wach'" },
  ])("answers wrong arguments with the usage: $args", async ({ args, first }) => {
    const { code, out, errors } = await terminal(temporaryDirectory()).run(...args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(errors.startsWith(first)).toBe(true);
    expect(errors).toContain("list --watch");
  });

  test("reports a directory that it cannot use in one line", async () => {
    const { code, errors } = await terminal("/dev/null").run("list");
    expect(code).toBe(1);
    expect(errors).toContain("/dev/null/todo");
    expect(errors.trimEnd().split("\n")).toHaveLength(1);
  });

  test("shows the changes of other terminals in a live list until Ctrl+C", async () => {
    const { start, run } = terminal(temporaryDirectory());
    const live = start("list", "--watch");
    await live.printed("0 of 0 left to do\n");
    await run("add", "buy milk");
    await live.printed("  1 [ ] buy milk\n1 of 1 left to do\n");
    await run("done", "1");
    await live.printed("  1 [x] buy milk\n0 of 1 left to do\n");
    expect(await live.stop("SIGINT")).toBe(0);
    expect(live.errors).toBe("");
  });

  test("gives each item a number of its own when terminals add at the same time", async () => {
    const { run } = terminal(temporaryDirectory());
    const texts = ["one", "two", "three", "four"];
    for (const { code } of await Promise.all(texts.map((text) => run("add", text)))) expect(code).toBe(0);
    const lines = (await run("list")).out.trimEnd().split("\n");
    expect(lines.map((line) => line.slice(0, 8))).toEqual(["  1 [ ] ", "  2 [ ] ", "  3 [ ] ", "  4 [ ] ", "4 of 4 l"]);
    expect(lines.slice(0, 4).map((line) => line.slice(8))).toEqual(expect.arrayContaining(texts));
  });
});
