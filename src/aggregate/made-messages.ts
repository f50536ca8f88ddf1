import { rejectionOf } from "./messages.ts";

/** What `emit` and `reject` have made during calls of `handle`, to find what a call made and did not return. */
export class MadeMessages {
  /** One list for all calls; a call that runs within another one uses the end of it. */
  readonly #made: object[] = [];
  #depth = 0;

  /** Given to the constructors. Does nothing outside a call, so that kept constructors do not fill the memory. */
  readonly record = (message: object): void => {
    if (this.#depth > 0) this.#made.push(message);
  };

  /** Begins a call. Returns what identifies it. */
  begin(): number {
    this.#depth++;
    return this.#made.length;
  }

  end(call: number): void {
    this.#depth--;
    this.#made.length = call;
  }

  /** Names a message that the call made and that `result` does not contain; `undefined` if there is none. */
  unreturned(call: number, result: unknown): string | undefined {
    const count = this.#made.length - call;
    if (count === 0 || (count === 1 && this.#made[call] === result)) return undefined;
    const made = this.#made.slice(call);
    const returned = new Set<unknown>(Array.isArray(result) ? result : [result]);
    const missing = made.filter((message) => !returned.has(message));
    if (missing.length === 0) return undefined;
    for (const message of made) returned.delete(message);
    // A changed copy of an event replaces it: it has the same type, and `emit` has not made it.
    const copies = new Map<unknown, number>();
    for (const item of returned) copies.set(typeOf(item), (copies.get(typeOf(item)) ?? 0) + 1);
    for (const message of missing) {
      const rejection = rejectionOf(message);
      if (rejection !== undefined) return `reject.${rejection.type}(…)`;
      const type = typeOf(message);
      const left = copies.get(type) ?? 0;
      if (left === 0) return `emit.${String(type)}(…)`;
      copies.set(type, left - 1);
    }
    return undefined;
  }
}

function typeOf(message: unknown): unknown {
  return typeof message === "object" && message !== null ? (message as { readonly type?: unknown }).type : undefined;
}
