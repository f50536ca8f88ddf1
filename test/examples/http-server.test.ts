import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { describe, expect, onTestFinished, test } from "vitest";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { Example } from "../support/example.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

interface Answer {
  readonly status: number;
  readonly type: string | null;
  readonly etag: string | null;
  readonly body: Record<string, unknown>;
}

interface ShopView {
  readonly products: Record<string, { readonly stock: number }>;
  readonly orders: number;
}

/** A running server of the example on a free port. */
class RunningShop {
  readonly #example: Example;
  readonly #url: string;

  private constructor(example: Example, url: string) {
    this.#example = example;
    this.#url = url;
  }

  static async start(directory: string): Promise<RunningShop> {
    const example = new Example("http-server", "--port", "0", `${directory}/shop`);
    await example.printed("its data in");
    return new RunningShop(example, /http:\/\/127\.0\.0\.1:\d+/.exec(example.out)![0]);
  }

  get url(): string {
    return this.#url;
  }

  get errors(): string {
    return this.#example.errors;
  }

  stop(): Promise<number | null> {
    return this.#example.stop("SIGTERM");
  }

  async request(path: string, init: RequestInit = {}): Promise<Answer> {
    const response = await fetch(this.#url + path, init);
    return {
      status: response.status,
      type: response.headers.get("content-type"),
      etag: response.headers.get("etag"),
      body: (await response.json()) as Record<string, unknown>,
    };
  }

  send(id: string, command: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return this.request(`/products/${id}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof command === "string" ? command : JSON.stringify(command),
    });
  }

  /** The states that the server sends to a page. */
  async live(): Promise<{ readonly type: string | undefined; readonly next: () => Promise<ShopView> }> {
    const sent = request(`${this.#url}/live`).end();
    onTestFinished(() => void sent.destroy());
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    const lines = createInterface({ input: response })[Symbol.asyncIterator]();
    const next = async (): Promise<ShopView> => {
      for (;;) {
        const { value, done } = await lines.next();
        if (done === true) throw new Error("the server has ended the stream");
        if (value.startsWith("data: ")) return JSON.parse(value.slice("data: ".length)) as ShopView;
      }
    };
    return { type: response.headers["content-type"], next };
  }
}

const order = (quantity: unknown) => ({ type: "Order", data: { quantity } });

describe("example: the shop over HTTP", () => {
  test("executes commands, and shows products with their version as entity tag", async () => {
    const shop = await RunningShop.start(temporaryDirectory());
    const before = { name: "Green tea", price: 480, stock: 24, limit: 10, version: 1 };
    expect(await shop.request("/products/green-tea")).toMatchObject({ status: 200, etag: '"1"', body: before });
    const after = { ...before, stock: 21, version: 2 };
    expect(await shop.send("green-tea", order(3))).toEqual({
      status: 200,
      type: "application/json",
      etag: '"2"',
      body: after,
    });
    expect((await shop.request("/products/green-tea")).body).toEqual(after);
    const mate = { name: "Mate", price: 700, stock: 1, limit: 1 };
    expect(await shop.send("mate", { type: "List", data: mate })).toMatchObject({ status: 200, etag: '"1"' });
    expect((await shop.request("/products/mate")).body).toEqual({ ...mate, version: 1 });
  });

  test("answers rejections with 404, 409 and 422, and says which one it is", async () => {
    const shop = await RunningShop.start(temporaryDirectory());
    expect(await shop.send("oolong", order(6))).toEqual({
      status: 409,
      type: "application/problem+json",
      etag: null,
      body: {
        title: "Conflict",
        status: 409,
        detail: "There are 5 left.",
        code: "COMMAND_REJECTED",
        rejection: { type: "OutOfStock", data: { stock: 5 } },
      },
    });
    const rejected = (status: number, type: string) => ({ status, body: { status, rejection: { type } } });
    expect(await shop.send("teapot", order(2))).toMatchObject(rejected(422, "OverLimit"));
    const listing = { name: "Teapot", price: 1, stock: 0, limit: 1 };
    expect(await shop.send("teapot", { type: "List", data: listing })).toMatchObject(rejected(409, "AlreadyListed"));
    expect(await shop.send("coffee", order(1))).toMatchObject(rejected(404, "NotListed"));
  });

  test("answers an invalid payload with 400 and each issue", async () => {
    const shop = await RunningShop.start(temporaryDirectory());
    const { status, body } = await shop.send("oolong", { type: "Order", data: { quantity: "2", gift: true } });
    expect({ status, code: body["code"] }).toEqual({ status: 400, code: "INVALID_COMMAND" });
    expect(body["issues"]).toMatchObject([{ path: ["quantity"] }, { path: [], message: /gift/ }]);
    for (const quantity of [0, -1, 1.5, 1001, null])
      expect((await shop.send("oolong", order(quantity))).body["issues"]).toMatchObject([{ path: ["quantity"] }]);
    for (const body of ["{", "", "null", "[]", '"Order"', '{"type":1}', '{"type":"Order","actor":"x"}', "\u00ff{"])
      expect(await shop.send("oolong", body)).toMatchObject({ status: 400, type: "application/problem+json" });
    expect((await shop.request("/products/oolong")).body).toMatchObject({ stock: 5, version: 1 });
  });

  test("refuses other requests with their statuses", async () => {
    const shop = await RunningShop.start(temporaryDirectory());
    expect((await shop.send("oolong", { type: "Steal" })).status).toBe(404);
    for (const path of [
      "/nothing",
      "/products/coffee",
      "/products/constructor",
      "/products/__proto__",
      "/products/a/b",
    ])
      expect((await shop.request(path)).status).toBe(404);
    for (const [path, allow] of [
      ["/products/oolong", "GET, POST"],
      ["/live", "GET"],
    ]) {
      const response = await fetch(shop.url + path, { method: "PUT" });
      expect([response.status, response.headers.get("allow")]).toEqual([405, allow]);
    }
    const text = { method: "POST", body: JSON.stringify(order(1)) };
    expect((await shop.request("/products/oolong", text)).status).toBe(415);
    expect((await shop.send("oolong", " ".repeat(64 * 1024) + JSON.stringify(order(1)))).status).toBe(413);
    expect((await shop.request("/products/oolong")).body).toMatchObject({ version: 1 });
  });

  test("takes a repeated idempotency key for the same command, also after a restart", async () => {
    const directory = temporaryDirectory();
    const shop = await RunningShop.start(directory);
    const key = { "idempotency-key": "k-1" };
    const first = await shop.send("oolong", order(2), key);
    expect(first.body).toMatchObject({ stock: 3, version: 2 });
    expect(await shop.send("oolong", order(1), { "idempotency-key": "k-2" })).toMatchObject({ body: { stock: 2 } });
    expect(await shop.send("oolong", order(2), key)).toEqual(first);
    expect(await shop.send("oolong", order(2), { ...key, "if-match": '"1"' })).toEqual(first);
    expect(await shop.stop()).toBe(0);
    const again = await RunningShop.start(directory);
    expect(await again.send("oolong", order(2), key)).toEqual(first);
    expect((await again.request("/products/oolong")).body).toMatchObject({ stock: 2, version: 3 });
  });

  test("executes a command with If-Match only at that version", async () => {
    const shop = await RunningShop.start(temporaryDirectory());
    const reprice = (price: number, tag: string) =>
      shop.send("oolong", { type: "Reprice", data: { price } }, { "if-match": tag });
    expect(await reprice(900, '"1"')).toMatchObject({ status: 200, etag: '"2"' });
    expect(await reprice(1000, '"1"')).toMatchObject({ status: 412, body: { code: "CONFLICT" } });
    for (const tag of ["*", "2", 'W/"2"', '"2", "3"', '"x"', '""'])
      expect(await reprice(1000, tag)).toMatchObject({ status: 400 });
    expect((await shop.request("/products/oolong")).body).toMatchObject({ price: 900, version: 2 });
  });

  test("sends the new state to every page after a command, also after one of another process", async () => {
    const directory = temporaryDirectory();
    const [shop, other] = [await RunningShop.start(directory), await RunningShop.start(directory)];
    const pages = [await shop.live(), await other.live()];
    for (const { type, next } of pages) {
      expect(type).toBe("text/event-stream");
      expect(await next()).toMatchObject({ orders: 0, products: { oolong: { stock: 5 } } });
    }
    await shop.send("oolong", order(2));
    for (const { next } of pages) expect(await next()).toMatchObject({ orders: 1, products: { oolong: { stock: 3 } } });
    await other.send("oolong", order(3));
    for (const { next } of pages) expect(await next()).toMatchObject({ orders: 2, products: { oolong: { stock: 0 } } });
    expect([await shop.stop(), await other.stop()]).toEqual([0, 0]);
    expect(shop.errors + other.errors).toBe("");
  });

  test("keeps its data when it is stopped and started again", async () => {
    const directory = temporaryDirectory();
    const shop = await RunningShop.start(directory);
    await shop.send("oolong", order(2));
    await shop.live();
    expect(await shop.stop()).toBe(0);
    const again = await RunningShop.start(directory);
    expect(await (await again.live()).next()).toMatchObject({ orders: 1, products: { oolong: { stock: 3 } } });
  });

  const chromium = findChromium();
  test.skipIf(chromium === undefined && process.env["CI"] === undefined)(
    "changes the page in a browser without loading it again (skipped where there is no Chromium)",
    async () => {
      if (chromium === undefined) throw new Error("expected Chromium on the PATH, found none; install it");
      const shop = await RunningShop.start(temporaryDirectory());
      const browser = await launchChromium(chromium);
      onTestFinished(() => browser.close());
      const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
      const failures: string[] = [];
      page.on("pageerror", (error) => void failures.push(error.message));
      await page.goto(shop.url);
      const text = (selector: string) => page.locator(selector).textContent();
      const shows = (selector: string, expected: string) =>
        until(async () => (await text(selector)) === expected, 60_000);

      await shows("#oolong .stock", "5 in stock");
      await shows("#connection", "live");
      // A command from elsewhere.
      await shop.send("oolong", order(2));
      await shows("#oolong .stock", "3 in stock");
      await shows("#totals", "1 order, 17.80");
      // Commands of the page.
      await page.click("#oolong .order-many");
      await shows("#oolong .stock", "sold out");
      await page.click("#oolong .order");
      await shows("#message", "There are 0 left.");
      await page.fill("#oolong input", "9.5");
      await page.click("#oolong form button");
      await shows("#oolong .price", "9.50");
      // The price changes while the user types another one.
      await page.fill("#oolong input", "10");
      await shop.send("oolong", { type: "Reprice", data: { price: 1200 } });
      await shows("#oolong .price", "12.00");
      await page.click("#oolong form button");
      await shows("#message", "The product has changed meanwhile. Look at it again.");
      expect(await text("#oolong .price")).toBe("12.00");
      // Names are text, not HTML.
      const name = "<img src=x onerror=alert(1)>";
      await shop.send("evil", { type: "List", data: { name, price: 1, stock: 1, limit: 1 } });
      await shows("#evil .name", name);
      expect(failures).toEqual([]);
    },
  );
});
