/** The second generation: several items, and `Sent` is called `Shipped`. Views are not recorded any more. */
import { aggregate, data, dropped, renamed } from "eventfold-es";

export const SecondOrder = aggregate("order", {
  initial: {},
  events: {
    Placed: data<{ item: string; price: string }>().to<{ items: string[]; price: string }>(({ item, price }) => ({
      items: [item],
      price,
    })),
    Shipped: data<{ by: string }>(),
    Finished: data<{ paid: string; by: string }>(),
  },
  history: [renamed("Sent", "Shipped"), dropped("Viewed")],
  commands: { Place: data<{ items: string[]; price: string }>(), Finish: data<{ paid: string; by: string }>() },
}).define({
  handle: {
    Place: ({ data, emit }) => emit.Placed(data),
    Finish: ({ data, emit }) => emit.Finished(data),
  },
  apply: { Placed: (order) => order, Shipped: (order) => order, Finished: (order) => order },
});
