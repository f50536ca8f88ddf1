/** The present generation: a currency, a tracking number, and a schema for each shape from now on. */
import { aggregate, data, dropped, projection, renamed, replaced } from "eventfold-es";
import { z } from "zod";
import { centsOf } from "./generations/third.ts";

const placed = z.object({ items: z.array(z.string()), cents: z.number().int(), currency: z.string() });
/** Events without a tracking number get the default when they are read. */
const shipped = z.object({ carrier: z.string(), tracking: z.string().default("unknown") });

export const Order = aggregate("order", {
  initial: { items: [] as string[], due: 0, carriers: [] as string[] },
  events: {
    Placed: data<{ item: string; price: string }>()
      .to<{ items: string[]; price: string }>(({ item, price }) => ({ items: [item], price }))
      .to<{ items: string[]; cents: number }>(({ items, price }) => ({ items, cents: centsOf(price) }))
      .to(placed, (order) => ({ ...order, currency: "EUR" })),
    Shipped: data<{ by: string }>().to(shipped, ({ by }) => ({ carrier: by })),
    Paid: data<{ cents: number }>(),
  },
  history: [
    renamed("Sent", "Shipped"),
    dropped("Viewed"),
    // Its parts have the present shapes.
    replaced("Finished", data<{ paid: string; by: string }>(), ({ paid, by }) => [
      { type: "Paid", data: { cents: centsOf(paid) } },
      { type: "Shipped", data: { carrier: by } },
    ]),
  ],
  commands: { Place: placed, Ship: shipped, Pay: z.object({ cents: z.number().int().positive() }) },
}).define({
  handle: {
    Place: ({ data, emit }) => emit.Placed(data),
    Ship: ({ data, emit }) => emit.Shipped(data),
    Pay: ({ data, emit }) => emit.Paid(data),
  },
  apply: {
    Placed: (order, { items, cents }) => ({ ...order, items, due: order.due + cents }),
    Shipped: (order, { carrier, tracking }) => ({
      ...order,
      carriers: [...order.carriers, `${carrier} (${tracking})`],
    }),
    Paid: (order, { cents }) => ({ ...order, due: order.due - cents }),
  },
});

/** What each carrier has shipped, whatever the event was called at the time. */
export const Shipments = projection("shipments", (): Record<string, number> => ({})).on(Order, {
  Shipped: (shipments, { data: { carrier } }) => {
    shipments[carrier] = (shipments[carrier] ?? 0) + 1;
  },
});
