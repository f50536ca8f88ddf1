/**
 * Ids of one store's batches: UUIDs that begin with the same 64 random bits, so that the events of its own batches can be told from those
 * of other processes by a range, also while their answer is still on its way.
 */
export class BatchIds {
  readonly #own: string;
  #count = 0;

  constructor() {
    this.#own = globalThis.crypto.randomUUID().slice(0, 18);
  }

  next(): string {
    return this.#at((++this.#count).toString(16));
  }

  get first(): string {
    return this.#at("0");
  }

  get last(): string {
    return this.#at("f".repeat(16));
  }

  #at(count: string): string {
    const digits = count.padStart(16, "0");
    return `${this.#own}-${digits.slice(0, 4)}-${digits.slice(4)}`;
  }
}
