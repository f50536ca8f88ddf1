const PAGE = 4096;

/**
 * The bytes of a simulated file in pages that are never changed once written, so that a copy costs one small
 * array. A missing page is all zeros.
 */
export class Content {
  #pages: (Uint8Array | undefined)[];
  #size: number;

  constructor(pages: (Uint8Array | undefined)[] = [], size = 0) {
    this.#pages = pages;
    this.#size = size;
  }

  get size(): number {
    return this.#size;
  }

  copy(): Content {
    return new Content(this.#pages.slice(), this.#size);
  }

  read(target: Uint8Array, offset: number, length: number, position: number): number {
    const end = Math.min(this.#size, position + length);
    for (let at = position; at < end;) {
      const inPage = at % PAGE;
      const count = Math.min(PAGE - inPage, end - at);
      const page = this.#pages[(at - inPage) / PAGE];
      const to = offset + at - position;
      if (page === undefined) target.fill(0, to, to + count);
      else target.set(inPage === 0 && count === PAGE ? page : page.subarray(inPage, inPage + count), to);
      at += count;
    }
    return Math.max(0, end - position);
  }

  write(bytes: Uint8Array, position: number): void {
    if (bytes.length === 0) return;
    for (let done = 0; done < bytes.length;) {
      const at = position + done;
      const inPage = at % PAGE;
      const count = Math.min(PAGE - inPage, bytes.length - done);
      const index = (at - inPage) / PAGE;
      const part = bytes.subarray(done, done + count);
      const old = this.#pages[index];
      if (old !== undefined || !isZero(part)) {
        const page = new Uint8Array(PAGE);
        if (old !== undefined && count < PAGE) page.set(old);
        page.set(part, inPage);
        while (this.#pages.length < index) this.#pages.push(undefined);
        this.#pages[index] = page;
      }
      done += count;
    }
    this.#size = Math.max(this.#size, position + bytes.length);
  }

  /** Cuts, or extends with zeros. */
  resize(size: number): void {
    if (size < this.#size) {
      this.#pages.length = Math.min(this.#pages.length, Math.ceil(size / PAGE));
      const last = Math.floor(size / PAGE);
      const page = this.#pages[last];
      if (page !== undefined && size % PAGE > 0) {
        const cut = new Uint8Array(PAGE);
        cut.set(page.subarray(0, size % PAGE));
        this.#pages[last] = cut;
      }
    }
    this.#size = size;
  }

  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#size);
    this.read(bytes, 0, this.#size, 0);
    return bytes;
  }
}

/** Whether all bytes from `from` on are zero. */
export function isZero(bytes: Uint8Array, from = 0): boolean {
  let at = from;
  while (at < bytes.length && (bytes.byteOffset + at) % 4 !== 0) if (bytes[at++] !== 0) return false;
  if (at === bytes.length) return true;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + at, (bytes.length - at) >> 2);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  for (at += words.length * 4; at < bytes.length; at++) if (bytes[at] !== 0) return false;
  return true;
}
