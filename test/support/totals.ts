import { projection } from "eventfold-es";
import { Counter } from "./counter.ts";

/** A projection of all additions, and the positions of the events that it has folded, repetitions included. */
export function totals(name = "totals") {
  const seen: number[] = [];
  const Totals = projection(name, () => ({ total: 0, count: 0, byId: {} as Record<string, number> })).on(Counter, {
    Added: (s, e) => {
      seen.push(e.position);
      s.total += e.data.by;
      s.count++;
      s.byId[e.id] = (s.byId[e.id] ?? 0) + e.data.by;
    },
  });
  return { Totals, seen };
}
