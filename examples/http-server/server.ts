/** The shop over HTTP: products, commands, and a page that shows the shop as it changes. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { CommandBus } from "eventfold-es";
import { HttpError, problemOf } from "./problem.ts";
import { Product } from "./product.ts";
import { type Shop, ShopOverview } from "./shop.ts";

const PAGE = new URL("page.html", import.meta.url);
const PRODUCT_PATH = /^\/products\/([a-z0-9-]{1,60})$/;
const MAX_BODY_BYTES = 64 * 1024;

type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export function createShopServer(shop: Shop): Server {
  const bus = new CommandBus(shop).register(Product);

  /** The handlers of a path, by method. */
  function handlersOf(path: string): Readonly<Record<string, Handler>> {
    if (path === "/") return { GET: sendPage };
    if (path === "/live") return { GET: sendChanges };
    const id = PRODUCT_PATH.exec(path)?.[1];
    if (id === undefined) throw new HttpError(404, `There is no ${path}.`);
    return {
      GET: (_, response) => sendProduct(id, response),
      POST: (request, response) => runCommand(id, request, response),
    };
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "" } = request;
    const handlers = handlersOf(url.split("?")[0]!);
    const handler = handlers[method];
    if (handler === undefined) {
      response.setHeader("allow", Object.keys(handlers).join(", "));
      throw new HttpError(405, `${method} is not allowed here.`);
    }
    await handler(request, response);
  }

  async function sendPage(_: IncomingMessage, response: ServerResponse): Promise<void> {
    const page = await readFile(PAGE);
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page);
  }

  /** Server-sent events: the whole read model now, and again after each change. */
  async function sendChanges(_: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", connection: "close" });

    let sent = 0;
    const send = async (): Promise<void> => {
      const { state, position } = await shop.projection(ShopOverview, { withPosition: true });
      sent = position;
      const hasRoom = response.write(`data: ${JSON.stringify(state)}\n\n`);
      if (!hasRoom) await once(response, "drain", { signal: gone.signal });
    };
    await send();
    // A client that reads slowly skips states: `send` always sends the newest one.
    for await (const event of shop.subscribe({ from: sent + 1, signal: gone.signal }))
      if (event.position > sent) await send();
    response.end();
  }

  async function sendProduct(id: string, response: ServerResponse): Promise<void> {
    const { products } = await shop.projection(ShopOverview);
    if (!Object.hasOwn(products, id)) throw new HttpError(404, "The shop has no such product.");
    const { version, ...product } = products[id]!;
    sendJson(response, product, version);
  }

  /** The body is a command `{ type, data }`. */
  async function runCommand(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const command = await readJson(request);
    const { state, version } = await bus.dispatchUnknown(
      { aggregate: Product.type, id, command },
      { idempotencyKey: header(request, "idempotency-key"), expectedVersion: expectedVersion(request) },
    );
    const { isListed: _, ...product } = state;
    sendJson(response, product, version);
  }

  return createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      // A client that has gone, or a page whose stream has failed: it connects again.
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const problem = problemOf(error);
      response.writeHead(problem.status, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
    });
  });
}

/** The version is also the entity tag. */
function sendJson(response: ServerResponse, body: object, version: number): void {
  const headers = { "content-type": "application/json", "cache-control": "no-cache", etag: `"${version}"` };
  response.writeHead(200, headers).end(JSON.stringify({ ...body, version }));
}

function header(request: IncomingMessage, name: string): string | undefined {
  return request.headers[name]?.toString();
}

function expectedVersion(request: IncomingMessage): number | undefined {
  const tag = header(request, "if-match");
  if (tag === undefined) return undefined;
  if (!/^"\d{1,15}"$/.test(tag)) throw new HttpError(400, `If-Match expects an entity tag like "3", found ${tag}`);
  return Number(tag.slice(1, -1));
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  // A page of another site can send a form or a text to this server, but no JSON.
  if (!/^application\/json\b/i.test(header(request, "content-type") ?? ""))
    throw new HttpError(415, "Send the command as application/json.");
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (bytes > MAX_BODY_BYTES) throw new HttpError(413, `A command may have ${MAX_BODY_BYTES} bytes at most.`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
  } catch {
    throw new HttpError(400, "The body is not JSON.");
  }
}
