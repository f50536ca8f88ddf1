/** Payloads declared by schemas of other libraries. */
import { aggregate, type CommandOf, data, type DataOf, type EventOf } from "eventfold-es";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { type Same, yes } from "./support.ts";

const Mixed = aggregate("mixed", {
  initial: { n: 0 },
  events: {
    Z: z.object({ by: z.number().int() }),
    V: v.object({ by: v.number() }),
    K: type({ by: "number" }),
    T: data<{ by: number }>(),
  },
  commands: { Add: z.object({ by: z.number() }), AddV: v.object({ by: v.number() }), AddK: type({ by: "number" }) },
}).define({
  handle: {
    Add: ({ data, emit }) => [emit.Z(data), emit.V(data), emit.K(data), emit.T(data)],
    AddV: ({ data, emit }) => emit.Z({ by: data.by }),
    AddK: ({ data, emit }) => emit.Z({ by: data.by }),
  },
  apply: {
    Z: (s, d) => ({ n: s.n + d.by }),
    V: (s, d) => ({ n: s.n + d.by }),
    K: (s, d) => ({ n: s.n + d.by }),
    T: (s, d) => ({ n: s.n + d.by }),
  },
});
yes<Same<Extract<EventOf<typeof Mixed>, { type: "Z" }>["data"], { by: number }>>();
yes<Same<Extract<EventOf<typeof Mixed>, { type: "V" }>["data"], { by: number }>>();
yes<Same<Extract<EventOf<typeof Mixed>, { type: "K" }>["data"], { by: number }>>();
yes<Same<Extract<CommandOf<typeof Mixed>, { type: "AddV" }>["data"], { by: number }>>();
// @ts-expect-error zod
Mixed.events.Z({ by: "1" });
// @ts-expect-error valibot
Mixed.events.V({ by: "1" });
// @ts-expect-error arktype
Mixed.events.K({ by: "1" });
// @ts-expect-error zod, a command
Mixed.commands.Add({});
// @ts-expect-error valibot, an envelope
Mixed.at("m").AddV({ by: null });
// @ts-expect-error arktype, a command
Mixed.commands.AddK();

// A schema with defaults and transformations: users give what goes in, handlers see what comes out.
const addition = z.object({ by: z.string().transform(Number), times: z.number().default(1) });
yes<Same<DataOf<typeof addition>, { by: number; times: number }>>();
const Parsed = aggregate("parsed", {
  initial: 0,
  events: { Added: z.object({ by: z.number(), note: z.string().default("") }) },
  commands: { Add: addition },
}).define({
  handle: {
    Add: ({ data, emit }) => {
      yes<Same<typeof data, { by: number; times: number }>>();
      return emit.Added({ by: data.by * data.times });
    },
  },
  apply: {
    Added: (n, event) => {
      yes<Same<typeof event, { by: number; note: string }>>();
      return n + event.by;
    },
  },
});
Parsed.commands.Add({ by: "5" });
Parsed.at("p").Add({ by: "5", times: 2 });
yes<
  Same<CommandOf<typeof Parsed>, { readonly type: "Add"; readonly data: { by: string; times?: number | undefined } }>
>();
yes<Same<EventOf<typeof Parsed>, { readonly type: "Added"; readonly data: { by: number; note: string } }>>();
// @ts-expect-error this is what comes out
Parsed.commands.Add({ by: 5 });
// @ts-expect-error an event that is there has all its fields
Parsed.events.Added({ by: 5 });

// What JSON would change does not compile in a schema either.
aggregate("x", {
  initial: 0,
  // @ts-expect-error an event with a date
  events: { A: z.object({ at: z.date() }) },
  commands: {},
});
aggregate("x", {
  initial: 0,
  // @ts-expect-error an event with a map
  events: { A: v.object({ m: v.map(v.string(), v.number()) }) },
  commands: {},
});
aggregate("x", {
  initial: 0,
  // @ts-expect-error an event whose text becomes a date
  events: { A: z.object({ at: z.string().transform((text) => new Date(text)) }) },
  commands: {},
});
aggregate("x", {
  initial: 0,
  events: {},
  // @ts-expect-error a command with a big integer
  commands: { A: z.object({ n: z.bigint() }) },
});
// A command's payload is JSON when it is sent; its handler may get something else.
aggregate("x", {
  initial: 0,
  events: { A: data<{ year: number }>() },
  commands: { Do: z.object({ at: z.string().transform((text) => new Date(text)) }) },
}).define({
  handle: { Do: ({ data, emit }) => emit.A({ year: data.at.getFullYear() }) },
  apply: { A: (n) => n + 1 },
});
