/**
 * A small shop over HTTP, with a live page.
 *
 * npm run start:http -- [--port <port>] [directory]
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { createShopServer } from "./server.ts";
import { listSamples, openShop } from "./shop.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: "string", default: "3000" } },
});
const [directory = "data/http-server"] = positionals;

const shop = await openShop(directory);
await listSamples(shop);

// Only programs of this machine can connect.
const server = createShopServer(shop).listen(Number(values.port), "127.0.0.1");
await once(server, "listening");
console.log(`The shop is at http://127.0.0.1:${(server.address() as AddressInfo).port}, its data in ${directory}`);

const stop = async (): Promise<void> => {
  server.close();
  // Ends the live pages, and waits for the commands that are under way.
  await shop.close();
};
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void stop());
