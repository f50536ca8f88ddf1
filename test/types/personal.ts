/** Personal fields: paths and placeholders are typed by the payload. */
import { aggregate, data, type DataOf, type StandardSchema } from "eventfold-es";
import { type Same, yes } from "./support.ts";

interface Profile {
  readonly person: string;
  readonly name?: string;
  readonly age: number | null;
  readonly kind: "guest" | "member";
  readonly address: { readonly street: string; readonly lines?: readonly string[] };
  readonly contacts: readonly { readonly email: string; readonly codes: readonly number[] }[];
}

const declared = data<Profile>().personal("person", {
  person: "-",
  name: "-",
  age: null,
  kind: "guest",
  "address.street": "",
  "address.lines": [],
  "contacts[].email": "-",
});
// Handlers see the payload as it was declared.
yes<Same<DataOf<typeof declared>, Profile>>();
data<Profile>().personal(({ person }, id) => (id === "" ? undefined : person), { address: { street: "" } });
data<readonly { readonly name: string }[]>().personal((_, id) => id, { "[].name": "-" });
data<Profile>()
  .personal("person", { name: "-" })
  .personal((_, id) => id, { "contacts[].codes[]": 0 });
data<{ a: string }>()
  .personal("a", { a: "-" })
  .to<{ b: string }>(({ a }) => ({ b: a }))
  .personal("b", { b: "-" });

// A union has the paths of each part.
data<{ kind: "a"; name: string } | { kind: "b"; title: string }>().personal((_, id) => id, { name: "-", title: "-" });
// Types that contain themselves, and payloads of any shape.
interface Tree {
  readonly value: string;
  readonly children: readonly Tree[];
}
data<Tree>().personal((_, id) => id, { value: "-", "children[].value": "-", "children[].children[].value": "-" });
data<Record<string, string>>().personal((_, id) => id, { anything: "-" });
data<unknown>().personal("person", { name: "-" });

// @ts-expect-error -- no such field
data<Profile>().personal("person", { nmae: "-" });
// @ts-expect-error -- not a path of the payload
data<Profile>().personal("persn", { name: "-" });
// @ts-expect-error -- a placeholder has the type of its field
data<Profile>().personal("person", { name: 0 });
// @ts-expect-error -- null is no age of this type
data<{ age: number }>().personal((_, id) => id, { age: null });
// @ts-expect-error -- one of the kinds
data<Profile>().personal("person", { kind: "gone" });
// @ts-expect-error -- a list has elements
data<Profile>().personal("person", { "contacts.email": "-" });
// @ts-expect-error -- the subject is a text
data<Profile>().personal(({ age }) => age, { name: "-" });

declare const schema: StandardSchema<{ name?: string }, { name: string }>;
const checked = data(schema).personal((_, id) => id, { name: "-" });
yes<Same<DataOf<typeof checked>, { name: string }>>();

aggregate("person", {
  initial: 0,
  events: { Filled: declared, Checked: checked },
  commands: { Fill: data<Profile>().personal("person", { name: "-" }) },
  rejections: { Refused: data<{ name: string }>().personal((_, id) => id, { name: "-" }) },
}).define({
  handle: { Fill: ({ data: given, emit }) => emit.Filled(given) },
  apply: { Filled: (n, { contacts }) => n + contacts.length, Checked: (n, { name }) => n + name.length },
});
