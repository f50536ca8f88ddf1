/** The third generation: prices in cents, and `Finished` is split into `Paid` and `Shipped`. */
import { aggregate, data, dropped, renamed, replaced } from "eventfold-es";

export const centsOf = (euros: string): number => Math.round(Number(euros) * 100);

export const ThirdOrder = aggregate("order", {
  initial: {},
  events: {
    Placed: data<{ item: string; price: string }>()
      .to<{ items: string[]; price: string }>(({ item, price }) => ({ items: [item], price }))
      .to<{ items: string[]; cents: number }>(({ items, price }) => ({ items, cents: centsOf(price) })),
    Shipped: data<{ by: string }>(),
    Paid: data<{ cents: number }>(),
  },
  history: [
    renamed("Sent", "Shipped"),
    dropped("Viewed"),
    replaced("Finished", data<{ paid: string; by: string }>(), ({ paid, by }) => [
      { type: "Paid", data: { cents: centsOf(paid) } },
      { type: "Shipped", data: { by } },
    ]),
  ],
  commands: { Place: data<{ items: string[]; cents: number }>(), Pay: data<{ cents: number }>() },
}).define({
  handle: { Place: ({ data, emit }) => emit.Placed(data), Pay: ({ data, emit }) => emit.Paid(data) },
  apply: { Placed: (order) => order, Shipped: (order) => order, Paid: (order) => order },
});
