import type * as Buffers from "node:buffer";
import type * as Crypto from "node:crypto";
import { EventfoldError } from "../errors.ts";
import type { SubjectKey } from "../event-store/subject-keys.ts";

/** Encrypts texts. `place` says what a text belongs to: a box that was moved to another place cannot be opened. */
export interface Cipher {
  /** A new random key. */
  newKey(): SubjectKey;
  seal(key: Uint8Array, place: string, text: string): string;
  /** The text in a box; `undefined` if the box was changed or moved, or was made with another key. */
  open(key: Uint8Array, place: string, box: string): string | undefined;
  /** The one key that several make together. */
  joined(keys: readonly Uint8Array[]): Uint8Array;
}

interface Host {
  readonly process?: { readonly getBuiltinModule?: (name: string) => unknown };
}

const ALGORITHM = "aes-256-gcm";
const KEY_BYTES = 32;
const ID_BYTES = 12;
/** What comes first in a box. */
const NONCE_BYTES = 12;
/** What follows the nonce. */
const TAG_BYTES = 16;

/** AES-256-GCM of Node.js. Looked up instead of imported: an import would fail in a browser and in each bundle for one. */
function nodeCipher(): Cipher | undefined {
  const { process } = globalThis as Host;
  const crypto = process?.getBuiltinModule?.("node:crypto") as typeof Crypto | undefined;
  const buffer = process?.getBuiltinModule?.("node:buffer") as typeof Buffers | undefined;
  if (crypto === undefined || buffer === undefined) return undefined;
  const { Buffer } = buffer;
  return {
    newKey: () => ({
      id: crypto.randomBytes(ID_BYTES).toString("base64url"),
      key: new Uint8Array(crypto.randomBytes(KEY_BYTES)),
    }),
    seal(key, place, text) {
      const nonce = crypto.randomBytes(NONCE_BYTES);
      const cipher = crypto.createCipheriv(ALGORITHM, key, nonce).setAAD(Buffer.from(place));
      const encrypted = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), encrypted]).toString("base64url");
    },
    open(key, place, box) {
      const bytes = Buffer.from(box, "base64url");
      if (bytes.length < NONCE_BYTES + TAG_BYTES) return undefined;
      const nonce = bytes.subarray(0, NONCE_BYTES);
      const tag = bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
      const decipher = crypto.createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(Buffer.from(place)).setAuthTag(tag);
      try {
        const text = decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES));
        return Buffer.concat([text, decipher.final()]).toString("utf8");
      } catch {
        return undefined;
      }
    },
    joined(keys) {
      const [only] = keys;
      if (keys.length === 1 && only !== undefined) return only;
      const hash = crypto.createHash("sha256");
      for (const key of keys) hash.update(key);
      return new Uint8Array(hash.digest());
    },
  };
}

/** Throws `INVALID_ARGUMENT` where there is no cipher. */
export function findCipher(): Cipher {
  const cipher = nodeCipher();
  if (cipher === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "personal data expected node:crypto, found a platform without it; open the store in Node.js, or leave personal(…) out of the contracts that run here",
    );
  return cipher;
}
