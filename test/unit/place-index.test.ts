import { describe, expect, test } from "vitest";
import { PlaceIndex } from "../../src/file-store/log/place-index.ts";

const place = (position: number, offset = position * 100) => ({ segment: 1, offset, position });

describe("the index of places in the log", () => {
  test("finds the last place at or before a position", () => {
    const index = new PlaceIndex();
    for (const position of [30, 10, 20]) index.add(place(position));
    expect([5, 10, 15, 20, 29, 30, 99].map((position) => index.find(position)?.position)).toEqual([
      undefined,
      10,
      10,
      20,
      20,
      30,
      30,
    ]);
  });

  test("keeps the newer one of two places with the same position", () => {
    const index = new PlaceIndex();
    for (const position of [10, 20, 30]) index.add(place(position));
    index.add(place(20, 2050));
    expect(index.find(25)?.offset).toBe(2050);
    expect(index.find(10)?.offset).toBe(1000);
  });

  test("stays small, dense near the end and without large gaps before it", () => {
    const index = new PlaceIndex();
    const places = 100_000;
    for (let position = 0; position <= places; position++) index.add(place(position));
    expect(index.find(places)?.position).toBe(places);
    expect(index.find(places - 200)?.position).toBe(places - 200);
    const found = Array.from({ length: places + 1 }, (_, position) => index.find(position)?.position ?? Number.NaN);
    expect(new Set(found).size).toBeLessThanOrEqual(512);
    expect(found[0]).toBe(0);
    expect(found.every((at, position) => at <= position)).toBe(true);
  });
});
