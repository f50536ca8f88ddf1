import { describe, expect, test } from "vitest";
import { type DamageCase, itemCase, segmentedCase, violations } from "../support/damage.ts";

/** `npm run test:damage` damages every byte, `npm test` one in this many. */
const EVERY = process.env["EVENTFOLD_DAMAGE"] === "all" ? 1 : 101;
/** The table of the streams' ends is large and nearly all zeros. */
const EVERY_OF_TABLE = EVERY === 1 ? 1 : 1999;
const TIMEOUT = EVERY === 1 ? 3_600_000 : 120_000;

const MASKS: readonly { readonly name: string; readonly apply: (byte: number) => number }[] = [
  { name: "^0x01", apply: (byte) => byte ^ 0x01 },
  { name: "^0x20", apply: (byte) => byte ^ 0x20 },
  { name: "=0x00", apply: () => 0 },
];

function stepOf(path: string): number {
  return path.endsWith("/stream_ends") ? EVERY_OF_TABLE : EVERY;
}

const stores: readonly { readonly name: string; readonly make: () => Promise<DamageCase> }[] = [
  { name: "a store with snapshots, checkpoints, notes and dead letters", make: itemCase },
  { name: "a store whose log has several segments", make: segmentedCase },
];

describe.each(stores)("in $name", ({ make }) => {
  test(
    "a changed byte never changes a result, is found by verify, and is repaired",
    async () => {
      const store = await make();
      let tried = 0;
      for (const [path, bytes] of store.image) {
        for (let at = bytes.length % stepOf(path); at < bytes.length; at += stepOf(path)) {
          for (const { name, apply } of MASKS) {
            const changed = Uint8Array.from(bytes);
            changed[at] = apply(bytes[at] ?? 0);
            if (changed[at] === bytes[at]) continue;
            tried++;
            expect(await violations(store, path, changed), `${path}, byte ${at} ${name}`).toEqual([]);
          }
        }
      }
      expect(tried).toBeGreaterThan(EVERY === 1 ? 5000 : 50);
    },
    TIMEOUT,
  );

  test(
    "a file that ends early never changes a result, is found by verify, and is repaired",
    async () => {
      const store = await make();
      for (const [path, bytes] of store.image) {
        for (let length = bytes.length - 1; length >= 0; length -= stepOf(path)) {
          const expectation = { mayLoseNotes: path.includes("/commit_log/") };
          const found = await violations(store, path, bytes.subarray(0, length), expectation);
          expect(found, `${path} cut to ${length} bytes`).toEqual([]);
        }
      }
    },
    TIMEOUT,
  );

  test("a missing file never changes a result, is found by verify, and is repaired", async () => {
    const store = await make();
    for (const path of store.image.keys()) {
      // The files of locks are empty, and a missing snapshot or checkpoint leaves no trace.
      const maySeemClean = /\/(lock|turn|state\.snapshot\.json|checkpoint(\.eventfold)?\.json)$/.test(path);
      const expectation = { maySeemClean, mayLoseNotes: path.includes("/commit_log/") };
      expect(await violations(store, path, undefined, expectation), `${path} missing`).toEqual([]);
    }
  });
});
