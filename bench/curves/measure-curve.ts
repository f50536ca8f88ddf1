import { number } from "../format.ts";
import type { Run } from "../run.ts";
import { spread } from "../statistics.ts";
import type { Sample } from "../tasks/task.ts";
import type { Curve, MeasuredCurve, Point } from "./curve.ts";

/** A point takes long, and the curve as a whole is what counts. */
const CURVE_ROUNDS = 3;

/** Measures a curve: all sizes in turn, round after round. */
export async function measureCurve(curve: Curve, run: Run, machine: string): Promise<MeasuredCurve> {
  const rounds = run.size(CURVE_ROUNDS, 1);
  const { name, title, axis, panels } = curve;
  const sizes = curve.sizes.filter((size) => !run.quick || size <= curve.quick);
  const samples = new Map<number, Sample[]>(sizes.map((size) => [size, []]));
  for (let round = 0; round < rounds; round++) {
    for (const size of sizes) {
      run.say(`${name}: ${number(size)}, round ${round + 1} of ${rounds}`);
      samples.get(size)?.push(await curve.measure(run, size));
      run.clear();
    }
  }
  const metrics = panels.flatMap(({ series }) => series.map(({ metric }) => metric));
  const points = [...samples].map(([size, measured]): Point => {
    const spreads = metrics.map((metric) => {
      const { median, lower, upper } = spread(measured.map((sample) => sample[metric] ?? Number.NaN));
      return [metric, { median: rounded(median), lower: rounded(lower), upper: rounded(upper) }] as const;
    });
    return { size, metrics: Object.fromEntries(spreads) };
  });
  return { name, title, axis, panels, machine, date: new Date().toISOString().slice(0, 10), rounds, points };
}

/** Four digits are more than can be known. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
