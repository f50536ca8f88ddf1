/** What the bank's customers do, the same in every run: so that a run that was killed can be taken up by another. */

/** Each account's money at the beginning, in cents. */
export const FIRST_BALANCE = 100_000;

export const accountId = (n: number): string => `a-${String(n).padStart(3, "0")}`;
export const transferId = (n: number): string => `t-${String(n).padStart(6, "0")}`;

const MISSING_ACCOUNT = "a-missing";

/** Transfer number `n` among so many accounts. Some are for an account that does not exist, or exceed every balance. */
export function orderOf(n: number, accounts: number): { from: string; to: string; amount: number } {
  const from = hash(n, 1) % accounts;
  const to = (from + 1 + (hash(n, 2) % (accounts - 1))) % accounts;
  const amount = 1 + (hash(n, 3) % (FIRST_BALANCE / 10));
  const oddity = hash(n, 4) % 50;
  return {
    from: accountId(from),
    to: oddity === 0 ? MISSING_ACCOUNT : accountId(to),
    amount: oddity === 1 ? FIRST_BALANCE * accounts : amount,
  };
}

/** What the receiver of an offer does: most accept, some do not want it, some do not care, and some answer when the time is just over. */
export function answerTo(transfer: string): "accept" | "decline" | "nothing" | "too late" {
  const choice = hash(Number(transfer.slice(2)), 5) % 40;
  return choice === 0 ? "nothing" : choice === 1 ? "too late" : choice < 4 ? "decline" : "accept";
}

/** A well-mixed number of 31 bits. */
function hash(n: number, salt: number): number {
  let mixed = Math.imul(n, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b);
  for (const shift of [15, 13, 16]) mixed = Math.imul(mixed ^ (mixed >>> shift), 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 16)) >>> 1;
}
