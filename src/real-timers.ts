/**
 * Real time. A test may replace the global timers, `process.nextTick` and `performance` (Vitest, Jest, sinon, `node:test`), before this
 * module is loaded or after; what the store waits for internally must still come. So the store uses these functions and never the globals.
 */

/** A timer has no more than 31 bits. */
export const LONGEST_TIMER_MS = 0x7fff_ffff;

type Work = () => void;
type SetTimer = (work: Work, ms: number) => unknown;
type ClearTimer = (handle: unknown) => void;

interface TimerFunctions {
  readonly setTimeout?: unknown;
  readonly clearTimeout?: unknown;
  readonly setImmediate?: unknown;
}

type Builtins = { getBuiltinModule?(name: string): unknown; nextTick?: unknown } | undefined;

const host = (globalThis as { readonly process?: Builtins }).process;

function builtin<T>(name: string): T | undefined {
  return host?.getBuiltinModule?.(name) as T | undefined;
}

/** Where timers are to be had. Some fakes replace the globals only. */
const places: readonly TimerFunctions[] = [globalThis, builtin<TimerFunctions>("node:timers") ?? {}];

/** Whether a function carries the mark of a fake: `clock` (sinon, Vitest, Jest), a spy's `mock`, or that of `node:test`, which binds its own. */
function isMarked(candidate: object): boolean {
  return (
    "clock" in candidate || "mock" in candidate || (candidate as { name?: string }).name?.startsWith("bound ") === true
  );
}

/** A timer function that is certainly the runtime's own: it has no mark, and it returns a handle of the runtime (in browsers, a number). */
function realOne<F extends (work: Work, ms: number) => unknown>(
  candidates: readonly unknown[],
  clear: unknown,
  property: string,
): F | undefined {
  return candidates.find((candidate) => {
    if (typeof candidate !== "function" || isMarked(candidate)) return false;
    const handle: unknown = candidate(() => {}, LONGEST_TIMER_MS);
    if (typeof clear === "function") clear(handle);
    if (typeof handle === "number") return host?.getBuiltinModule === undefined;
    if (typeof handle !== "object" || handle === null) return false;
    // Bun's immediates do not show how they are made.
    return property in handle || handle.constructor.name === "Immediate";
  }) as F | undefined;
}

// Called as plain functions: a browser's timers throw if they are called as methods of another object.
const { set: setTimer, clear: clearTimer } =
  places
    .map(({ setTimeout, clearTimeout }) => ({
      set: realOne<SetTimer>([setTimeout], clearTimeout, "_idleTimeout"),
      clear: clearTimeout as ClearTimer,
    }))
    .find(({ set }) => set !== undefined) ?? {};

const immediate = realOne<(work: Work) => unknown>(
  places.map(({ setImmediate }) => setImmediate),
  (globalThis as { clearImmediate?: unknown }).clearImmediate,
  "_onImmediate",
);

const nextTick =
  typeof host?.nextTick === "function" && !isMarked(host.nextTick)
    ? (host.nextTick as (work: Work) => void)
    : undefined;

const timeSource: { now(): number } =
  builtin<{ readonly performance: { now(): number } }>("node:perf_hooks")?.performance ?? globalThis.performance;

/** Milliseconds of a clock that never goes back. Its zero has no meaning. */
export const monotonicNow: () => number = timeSource.now.bind(timeSource);

/**
 * Calls back in a later task: after input, timers and other work that is due, but without waiting for time to pass. Browsers have no
 * `setImmediate`, and make timeouts wait: 4 ms when they are nested, up to a minute in a hidden tab. Messages do not wait.
 */
export const inNextTurn: (work: Work) => void =
  immediate !== undefined
    ? (work) => void immediate(work)
    : typeof MessageChannel === "function"
      ? throughMessages()
      : (work) => void setTimer?.(work, 0);

/** Calls back when everything that can go on without waiting has done so. */
export const atEndOfTurn: (work: Work) => void = nextTick === undefined ? inNextTurn : (work) => nextTick(work);

/**
 * Calls back once after `ms` milliseconds of real time. A `"background"` timer does not keep a program alive that has nothing else to
 * do. Returns the function that cancels it.
 */
export const startTimer: (work: Work, ms: number, kind: "foreground" | "background") => () => void =
  setTimer === undefined
    ? throughAtomics
    : (work, ms, kind) => {
        const handle = setTimer(work, ms);
        if (kind === "background") (handle as { unref?: () => void }).unref?.();
        return () => clearTimer?.(handle);
      };

/** Resolves after `ms` milliseconds of real time. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => void startTimer(resolve, ms, "foreground"));
}

/** A channel to this process itself. Fake timers do not replace it. */
function throughMessages(): (work: Work) => void {
  const { port1, port2 } = channel();
  const waiting: Work[] = [];
  port1.addEventListener("message", () => {
    const work = waiting.shift();
    if (waiting.length === 0) port1.unref?.();
    work?.();
  });
  port1.start();
  port1.unref?.();
  return (work) => {
    if (waiting.push(work) === 1) port1.ref?.();
    port2.postMessage(null);
  };
}

/** Keeps the program alive until the function that it returns is called. */
function stayAlive(): () => void {
  const { port1 } = channel();
  port1.start();
  port1.ref?.();
  return () => port1.close();
}

/** A timer for when all others were replaced before this module was loaded. Fake timers do not replace `Atomics`. */
function throughAtomics(work: Work, ms: number, kind: "foreground" | "background"): () => void {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const release = kind === "foreground" ? stayAlive() : () => {};
  let isCancelled = false;
  const { value } = (Atomics as unknown as WaitAsync).waitAsync(flag, 0, 0, Math.max(ms, 1));
  void value.then(() => {
    release();
    if (!isCancelled) work();
  });
  return () => {
    isCancelled = true;
    Atomics.notify(flag, 0);
  };
}

interface Port {
  addEventListener(type: "message", listener: Work): void;
  start(): void;
  postMessage(message: null): void;
  close(): void;
  /** Node.js only. */
  ref?(): void;
  unref?(): void;
}

function channel(): { readonly port1: Port; readonly port2: Port } {
  return new MessageChannel() as unknown as { port1: Port; port2: Port };
}

/** Standard since ES2024; older declarations lack it. */
interface WaitAsync {
  waitAsync(array: Int32Array, index: number, value: number, ms: number): { readonly value: Promise<string> };
}
