/** The shop's store, and the read model that its page shows. */
import { AggregateStore, projection } from "eventfold-es";
import { Product } from "./product.ts";

/** How many of the latest events the page shows. */
const LATEST = 8;

type ShopView = {
  products: Record<string, { name: string; price: number; stock: number; limit: number; version: number }>;
  orders: number;
  revenue: number;
  /** The newest one first. */
  latest: { position: number; timestamp: number; text: string }[];
};

export const ShopOverview = projection("shop", (): ShopView => ({
  products: {},
  orders: 0,
  revenue: 0,
  latest: [],
})).on(Product, {
  Listed: (shop, event) => {
    shop.products[event.id] = { ...event.data, version: event.version };
    note(shop, event, `${event.data.name}: listed`);
  },
  Restocked: (shop, event) => {
    const product = shop.products[event.id]!;
    product.stock += event.data.quantity;
    product.version = event.version;
    note(shop, event, `${product.name}: ${event.data.quantity} arrived`);
  },
  Ordered: (shop, event) => {
    const product = shop.products[event.id]!;
    product.stock -= event.data.quantity;
    product.version = event.version;
    shop.orders += 1;
    shop.revenue += event.data.quantity * event.data.price;
    note(shop, event, `${product.name}: ${event.data.quantity} sold`);
  },
  Repriced: (shop, event) => {
    const product = shop.products[event.id]!;
    product.price = event.data.price;
    product.version = event.version;
    note(shop, event, `${product.name}: now ${(event.data.price / 100).toFixed(2)}`);
  },
});

function note(shop: ShopView, event: { position: number; timestamp: number }, text: string): void {
  shop.latest.unshift({ position: event.position, timestamp: event.timestamp, text });
  shop.latest.splice(LATEST);
}

export function openShop(directory: string) {
  return AggregateStore.builder(directory).aggregate(Product).projection(ShopOverview).open();
}

export type Shop = Awaited<ReturnType<typeof openShop>>;

const SAMPLES = {
  "green-tea": { name: "Green tea", price: 480, stock: 24, limit: 10 },
  "earl-grey": { name: "Earl Grey", price: 520, stock: 16, limit: 10 },
  oolong: { name: "Oolong", price: 890, stock: 5, limit: 10 },
  teapot: { name: "Teapot", price: 6900, stock: 2, limit: 1 },
};

/** Lists the first products. Later calls are rejected and change nothing. */
export async function listSamples(shop: Shop): Promise<void> {
  for (const [id, sample] of Object.entries(SAMPLES)) await shop.get(Product, id).try(Product.commands.List(sample));
}
