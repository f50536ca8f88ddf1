import { equal } from "../expect.ts";
import { ADA, all, append, BOB, numbers } from "../store-calls.ts";
import type { Rule } from "../rule.ts";

/** Commits take effect in the order of the calls. */
export const order: readonly Rule[] = [
  {
    name: "commits are applied in the order of the calls",
    async run({ store }) {
      const results = await Promise.all(
        numbers(100).map((n) => store.commit(append(n % 3 === 0 ? BOB : ADA, versionBefore(n), `E${n}`))),
      );
      equal(
        results,
        numbers(100).map((n) => ({ ok: true, position: n })),
        "results",
      );
      equal(
        (await all(store)).map(({ type }) => type),
        numbers(100).map((n) => `E${n}`),
        "all events",
      );

      /** The version of the n-th commit's stream, if every third goes to one and the others to another. */
      function versionBefore(n: number): number {
        return n % 3 === 0 ? n / 3 - 1 : n - 1 - Math.floor(n / 3);
      }
    },
  },
];
