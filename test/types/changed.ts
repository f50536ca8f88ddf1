/** Models that change: histories, steps with schemas, schemas of states. */
import { aggregate, data, type DataOf, dropped, type EventOf, renamed, replaced, type StateOf } from "eventfold-es";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { type Same, yes } from "./support.ts";

// A state's schema gives the state's type.
const Door = aggregate("door", {
  initial: { status: "open" },
  state: z.object({ status: z.enum(["open", "closed"]) }),
  events: { Closed: data() },
  commands: { Close: data() },
}).define({ handle: { Close: ({ emit }) => emit.Closed() }, apply: { Closed: () => ({ status: "closed" }) } });
yes<Same<StateOf<typeof Door>, { status: "open" | "closed" }>>();
const Gate = aggregate("gate", {
  initial: { status: "open" },
  state: data<{ status: "open" | "closed" }>(),
  events: { Closed: data() },
  commands: {},
});
yes<Same<StateOf<typeof Gate>, { status: "open" | "closed" }>>();

// A history names old events, and what they are now.
const Order = aggregate("order", {
  initial: { items: 0 },
  events: {
    Placed: data<{ item: string }>().to<{ items: string[] }>(({ item }) => ({ items: [item] })),
    Shipped: data<{ carrier: string }>(),
    Paid: z.object({ cents: z.number(), currency: z.string().default("EUR") }),
  },
  commands: {},
  history: [
    renamed("Sent", "Shipped"),
    renamed("Posted", "Sent"),
    dropped("Viewed"),
    replaced("Finished", data<{ cents: number; by?: string }>(), ({ cents, by }) =>
      by === undefined
        ? [{ type: "Paid", data: { cents } }]
        : [
            { type: "Paid", data: { cents } },
            { type: "Shipped", data: { carrier: by } },
          ],
    ),
    replaced("Tipped", data<{ euros: number }>(), ({ euros }) => ({ type: "Paid", data: { cents: euros * 100 } })),
    replaced("Tested", data(), () => undefined),
    replaced("Ended", z.object({ by: z.string() }), ({ by }) => ({ type: "Finished", data: { cents: 0, by } })),
  ],
});
yes<Same<EventOf<typeof Order>["type"], "Placed" | "Shipped" | "Paid">>();

const events = { New: data<{ n: number }>() };
aggregate("a", { initial: 0, events, commands: {}, history: [renamed("Old", "New"), dropped("Older")] });
// @ts-expect-error no such event
aggregate("a", { initial: 0, events, commands: {}, history: [renamed("Old", "Newer")] });
// @ts-expect-error the name is in use
aggregate("a", { initial: 0, events, commands: {}, history: [dropped("New")] });
// @ts-expect-error the name is in use
aggregate("a", { initial: 0, events, commands: {}, history: [renamed("New", "Newer")] });
const toOther = replaced("Old", data(), () => ({ type: "Other" }));
// @ts-expect-error no such event
aggregate("a", { initial: 0, events, commands: {}, history: [toOther] });
const withoutPayload = replaced("Old", data<{ n: number }>(), () => ({ type: "New" }));
// @ts-expect-error the payload is missing
aggregate("a", { initial: 0, events, commands: {}, history: [withoutPayload] });
const wrongInList = replaced("Old", data(), () => [
  { type: "New", data: { n: 1 } },
  { type: "New", data: { n: "1" } },
]);
// @ts-expect-error the second has another payload
aggregate("a", { initial: 0, events, commands: {}, history: [wrongInList] });

// Schemas in steps: a step gets what its schema returns, and returns what the next one takes.
const steps = data(z.object({ name: z.string() }))
  .to(v.object({ title: v.string(), tags: v.optional(v.array(v.string()), []) }), (old) => {
    yes<Same<typeof old, { name: string }>>();
    return { title: old.name };
  })
  .to(type({ title: "string", tag: "string" }), (old) => {
    yes<Same<typeof old, { title: string; tags: string[] }>>();
    return { title: old.title, tag: old.tags[0] ?? "" };
  })
  .to<{ text: string }>(({ title, tag }) => ({ text: `${title} ${tag}` }));
yes<Same<DataOf<typeof steps>, { text: string }>>();
// @ts-expect-error the step does not return what the schema takes
data<{ a: number }>().to(z.object({ b: z.number() }), (old) => ({ b: String(old.a) }));
const bySchema = data(z.object({ at: z.number().default(0) }));
yes<Same<DataOf<typeof bySchema>, { at: number }>>();

// The same types from each library.
const Same3 = aggregate("same", {
  initial: 0,
  events: {
    Z: z.object({ name: z.string(), count: z.number(), tags: z.array(z.string()) }),
    V: v.object({ name: v.string(), count: v.number(), tags: v.array(v.string()) }),
    K: type({ name: "string", count: "number", tags: "string[]" }),
  },
  commands: {},
});
type DataOfEvent<K extends string> = Extract<EventOf<typeof Same3>, { type: K }>["data"];
yes<Same<DataOfEvent<"Z">, { name: string; count: number; tags: string[] }>>();
yes<Same<DataOfEvent<"V">, DataOfEvent<"Z">>>();
yes<Same<DataOfEvent<"K">, DataOfEvent<"Z">>>();
