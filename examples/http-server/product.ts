/** A product of the shop. Prices are whole cents. */
import { aggregate, data } from "eventfold-es";
import { z } from "zod";

const Quantity = z.int().min(1).max(1000);
const Price = z.int().min(1).max(1_000_000);

const Listing = z.strictObject({
  name: z.string().trim().min(1).max(60),
  price: Price,
  stock: z.int().min(0).max(1000),
  /** The most pieces that one order may have. */
  limit: Quantity,
});

export const Product = aggregate("product", {
  initial: { isListed: false, name: "", price: 0, stock: 0, limit: 0 },
  // Commands come from outside, so a schema checks each payload. Events come from `handle`: their types are enough.
  commands: {
    List: Listing,
    Restock: z.strictObject({ quantity: Quantity }),
    Order: z.strictObject({ quantity: Quantity }),
    Reprice: z.strictObject({ price: Price }),
  },
  events: {
    Listed: data<z.infer<typeof Listing>>(),
    Restocked: data<{ quantity: number }>(),
    Ordered: data<{ quantity: number; price: number }>(),
    Repriced: data<{ price: number }>(),
  },
  rejections: {
    NotListed: data(),
    AlreadyListed: data(),
    OutOfStock: data<{ stock: number }>(),
    OverLimit: data<{ limit: number }>(),
  },
}).define({
  handle: {
    List: ({ state, data, emit, reject }) => (state.isListed ? reject.AlreadyListed() : emit.Listed(data)),
    Restock: ({ state, data, emit, reject }) => (state.isListed ? emit.Restocked(data) : reject.NotListed()),
    Order: ({ state: { isListed, price, stock, limit }, data: { quantity }, emit, reject }) => {
      if (!isListed) return reject.NotListed();
      if (quantity > limit) return reject.OverLimit({ limit });
      if (quantity > stock) return reject.OutOfStock({ stock });
      return emit.Ordered({ quantity, price });
    },
    Reprice: ({ state, data, emit, reject }) => {
      if (!state.isListed) return reject.NotListed();
      return data.price === state.price ? undefined : emit.Repriced(data);
    },
  },
  apply: {
    Listed: (_, listing) => ({ isListed: true, ...listing }),
    Restocked: (state, { quantity }) => ({ ...state, stock: state.stock + quantity }),
    Ordered: (state, { quantity }) => ({ ...state, stock: state.stock - quantity }),
    Repriced: (state, { price }) => ({ ...state, price }),
  },
});
