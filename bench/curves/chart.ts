import { number } from "../format.ts";
import type { MeasuredCurve, Panel, Point } from "./curve.ts";

const PANEL = { width: 420, height: 300 };
/** Room around the plot. */
const MARGIN = { left: 62, right: 18, top: 58, bottom: 64 };
const COLOURS = ["#1f6feb", "#d1622b", "#2f8f4e", "#8a4fbf"];
const INK = "#24292f";
const GRID = "#d8dee4";

/** Maps values to the plot. */
type Scale = (value: number) => number;

/** A measured curve as an SVG image: a panel beside the other, medians as lines, quartiles as bars. */
export function chart(curve: MeasuredCurve): string {
  const width = PANEL.width * curve.panels.length;
  const panels = curve.panels.map((panel, n) => drawPanel(panel, curve, n * PANEL.width));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${PANEL.height}" width="${width}" height="${PANEL.height}" font-family="system-ui, sans-serif" font-size="11" fill="${INK}" role="img">`,
    `<title>${escaped(curve.title)}</title>`,
    `<rect width="${width}" height="${PANEL.height}" rx="6" fill="#ffffff"/>`,
    ...panels,
    "</svg>",
    "",
  ].join("\n");
}

function drawPanel(panel: Panel, { axis, points }: MeasuredCurve, left: number): string {
  const plot = {
    left: left + MARGIN.left,
    right: left + PANEL.width - MARGIN.right,
    top: MARGIN.top,
    bottom: PANEL.height - MARGIN.bottom,
  };
  const sizes = points.map(({ size }) => size);
  const x = logarithmic(Math.min(...sizes), Math.max(...sizes), plot.left + 10, plot.right - 10);
  const values = panel.series.flatMap(({ metric }) => points.flatMap((point) => valuesOf(point, metric)));
  const { scale: y, ticks } = verticalScale(panel.scale, values, plot.bottom, plot.top);
  const parts = [text(plot.left, 20, panel.title, 'font-size="13" font-weight="600"')];
  for (const tick of ticks) {
    const at = y(tick);
    parts.push(
      `<line x1="${plot.left}" x2="${plot.right}" y1="${round(at)}" y2="${round(at)}" stroke="${GRID}"/>`,
      text(plot.left - 6, at + 4, short(tick), 'text-anchor="end"'),
    );
  }
  for (const size of sizes) parts.push(text(x(size), plot.bottom + 16, short(size), 'text-anchor="middle"'));
  parts.push(text((plot.left + plot.right) / 2, plot.bottom + 32, axis, 'text-anchor="middle"'));
  panel.series.forEach(({ metric, label }, n) => {
    const colour = COLOURS[n % COLOURS.length] ?? INK;
    parts.push(drawSeries(points, metric, colour, x, y), ...drawLegend(label, colour, n, plot.left));
  });
  return parts.join("\n");
}

function drawSeries(points: readonly Point[], metric: string, colour: string, x: Scale, y: Scale): string {
  const places = points.flatMap(({ size, metrics }) => {
    const value = metrics[metric];
    return value === undefined || !Number.isFinite(value.median) ? [] : [{ size, value }];
  });
  const line = places.map(({ size, value }) => `${round(x(size))},${round(y(value.median))}`).join(" ");
  return [
    `<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"/>`,
    ...places.map(({ size, value }) => {
      const at = round(x(size));
      const quartiles = `<line x1="${at}" x2="${at}" y1="${round(y(value.lower))}" y2="${round(y(value.upper))}" stroke="${colour}" stroke-opacity="0.5" stroke-width="5"/>`;
      return `${quartiles}<circle cx="${at}" cy="${round(y(value.median))}" r="3.5" fill="${colour}"><title>${number(size)}: ${number(value.median)}</title></circle>`;
    }),
  ].join("\n");
}

/** Two names in a row above, the others below the plot. */
function drawLegend(label: string, colour: string, n: number, left: number): string[] {
  const at = { x: left + (n % 2) * 175, y: n < 2 ? 40 : PANEL.height - 10 };
  return [
    `<rect x="${at.x}" y="${at.y - 8}" width="10" height="10" rx="2" fill="${colour}"/>`,
    text(at.x + 14, at.y + 1, label),
  ];
}

function valuesOf({ metrics }: Point, metric: string): number[] {
  const value = metrics[metric];
  return value === undefined ? [] : [value.lower, value.median, value.upper].filter(Number.isFinite);
}

function verticalScale(
  kind: Panel["scale"],
  values: readonly number[],
  bottom: number,
  top: number,
): { readonly scale: Scale; readonly ticks: readonly number[] } {
  if (kind === "linear") {
    const step = niceStep(Math.max(...values) / 4);
    const steps = Math.ceil(Math.max(...values) / step);
    const ticks = Array.from({ length: steps + 1 }, (_, n) => n * step);
    return { scale: (value) => bottom - (value / (steps * step)) * (bottom - top), ticks };
  }
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...positive)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive))));
  const ticks = Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n));
  return { scale: logarithmic(10 ** low, 10 ** high, bottom, top), ticks };
}

function logarithmic(low: number, high: number, from: number, to: number): Scale {
  const width = Math.log(high / low) || 1;
  return (value) => from + (Math.log(Math.max(value, low) / low) / width) * (to - from);
}

/** 1, 2 or 5 times a power of ten, not below the given step. */
function niceStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= step) ?? 10;
  return factor * power;
}

/** `10k`, `5M`. */
function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (value >= 1000) return `${Number((value / 1000).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
