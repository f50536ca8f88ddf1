import type { Terminal } from "./terminal.ts";

/** How often the line is written, in ms. */
const EVERY_MS = 100;

/** Shows how far a long task is, with its rate and the time that it may still take. Returns a function for its steps. */
export function progressOf(terminal: Terminal, doing: string, unit: string): (done: number, total: number) => void {
  const started = performance.now();
  let shown = 0;
  return (done, total) => {
    const now = performance.now();
    if (now - shown < EVERY_MS && done < total) return;
    shown = now;
    const seconds = (now - started) / 1000;
    const rate = done / Math.max(seconds, 0.001);
    const left = rate > 0 ? Math.max(0, total - done) / rate : 0;
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    terminal.progress(`${doing}: ${percent} %, ${Math.round(rate)} ${unit}/s, ${Math.ceil(left)} s left`);
  };
}
