import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { gunzip } from "../../src/testing/crash/gunzip.ts";

test("decompresses what zlib has compressed, member after member", () => {
  const texts = ["", "a", "abc".repeat(500), JSON.stringify(Array.from({ length: 400 }, (_, i) => i * i))];
  for (const level of [0, 1, 6, 9]) {
    for (const text of texts) expect(Buffer.from(gunzip(gzipSync(text, { level }))).toString()).toBe(text);
    const members = Buffer.concat(texts.map((text) => gzipSync(text, { level })));
    expect(Buffer.from(gunzip(members)).toString()).toBe(texts.join(""));
  }
});

test("notices damage", () => {
  const bytes = gzipSync("abc".repeat(500));
  for (let at = 0; at < bytes.length; at++) {
    // The time and the system in the header mean nothing.
    if (at >= 4 && at < 10) continue;
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0xff;
    let found: string | undefined;
    try {
      found = Buffer.from(gunzip(damaged)).toString();
    } catch {
      continue;
    }
    expect(found, `byte ${at}`).toBe("abc".repeat(500));
  }
});
