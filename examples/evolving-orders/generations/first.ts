/** The first generation: one item per order, and a price in euros as text. */
import { aggregate, data } from "eventfold-es";

export const FirstOrder = aggregate("order", {
  initial: {},
  events: {
    Placed: data<{ item: string; price: string }>(),
    Sent: data<{ by: string }>(),
    Viewed: data(),
  },
  commands: { Place: data<{ item: string; price: string }>(), View: data(), Send: data<{ by: string }>() },
}).define({
  handle: {
    Place: ({ data, emit }) => emit.Placed(data),
    View: ({ emit }) => emit.Viewed(),
    Send: ({ data, emit }) => emit.Sent(data),
  },
  apply: { Placed: (order) => order, Sent: (order) => order, Viewed: (order) => order },
});
