import type { EventStore } from "../../../event-store/event-store.ts";
import { equal } from "../expect.ts";
import type { Rule } from "../rule.ts";

type Keys = NonNullable<EventStore["keys"]>;
type Key = Awaited<ReturnType<Keys["find"]>>;

/** A key that no other call makes. */
function makeKey(): NonNullable<Key> {
  made++;
  return { id: `key-${made}`, key: Uint8Array.from({ length: 32 }, (_, i) => (i * made) % 256) };
}
let made = 0;

const shown = (key: Key): unknown => key && [key.id, Array.from(key.key)];

/** The keys of `subjects`, obtained in a store that has a place for them. */
async function obtained(keys: Keys, ...subjects: string[]): Promise<unknown[]> {
  const found = await keys.obtain(subjects, makeKey);
  return subjects.map((subject) => shown(found.get(subject)));
}

/** Where the keys of personal data are kept, in a storage that has a place for them. */
export const subjectKeys: readonly Rule[] = [
  {
    name: "each person has one key until it is destroyed",
    async run({ store: { keys } }) {
      if (keys === undefined) return;
      equal([await keys.count(), await keys.find("a")], [0, undefined], "before there is one");
      const [a, b] = await obtained(keys, "a", "b");
      equal(await obtained(keys, "b", "a"), [b, a], "obtained again");
      const awkward = ["ü", "a b/c", "A", "quote'\"\\", "line\nfeed", "\u0000\u0001", "😀", "x".repeat(3000)];
      const others = await obtained(keys, ...awkward);
      equal(new Set(others.map((other) => JSON.stringify(other))).size, awkward.length, "keys that differ");
      equal(await keys.count(), 2 + awkward.length, "count");
      equal(await Promise.all(awkward.map(async (each) => shown(await keys.find(each)))), others, "found");
      const { id = "" } = (await keys.find("a")) ?? {};
      const withIds = await keys.withIds([id, "no such key"]);
      equal(
        [...withIds].map(([found, key]) => [found, Array.from(key)]),
        [a],
        "with ids",
      );
      await keys.destroy([id, "no such key"]);
      equal([await keys.find("a"), [...(await keys.withIds([id]))]], [undefined, []], "destroyed");
      equal(shown(await keys.find("b")), b, "another one");
      await keys.destroy([id]);
      const [again] = await obtained(keys, "a");
      equal(JSON.stringify(again) === JSON.stringify(a), false, "the same key again");
    },
  },
  {
    name: "keys are there after reopening, and destroyed ones are not",
    needs: "durable",
    async run({ store, reopened }) {
      if (store.keys === undefined) return;
      const [, b] = await obtained(store.keys, "a", "b");
      await store.keys.destroy([(await store.keys.find("a"))?.id ?? ""]);
      const { keys } = await reopened();
      equal([await keys?.find("a"), shown(await keys?.find("b"))], [undefined, b], "found");
      equal(await keys?.count(), 1, "count");
    },
  },
  {
    name: "two handles get the same keys",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = (await second()).keys;
      const { keys } = store;
      if (keys === undefined || other === undefined) return;
      const [here, there] = await Promise.all([keys, other].map((each) => obtained(each, "a", "b", "c")));
      equal(here, there, "obtained at the same time");
      equal(await keys.count(), 3, "count");
      const { id = "" } = (await keys.find("b")) ?? {};
      await keys.destroy([id]);
      equal([await other.find("b"), [...(await other.withIds([id]))], await other.count()], [undefined, [], 2], "gone");
      const [again] = await obtained(other, "b");
      equal(await obtained(keys, "b", "c"), [again, here?.[2]], "after it was destroyed");
    },
  },
];
