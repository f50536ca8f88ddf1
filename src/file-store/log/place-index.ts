import type { LogPlace } from "./log-place.ts";

/** More places than this are thinned out. */
const MAX_PLACES = 512;

/**
 * Places in the log, by position, so that a reader need not start at the beginning of a segment. Dense near the newest place,
 * sparse before it: a reader that stays away for long starts a little too early, not at the beginning.
 */
export class PlaceIndex {
  /** In the order of their positions, one for each. */
  #places: LogPlace[] = [];

  add(place: LogPlace): void {
    const index = this.#countUpTo(place.position);
    // Of several places with one position, commits without events lie between them: the last one is the best to start from.
    if (this.#places[index - 1]?.position === place.position) this.#places[index - 1] = place;
    else this.#places.splice(index, 0, place);
    if (this.#places.length > MAX_PLACES)
      this.#places = this.#places.filter((_, i) => i >= MAX_PLACES / 2 || i % 2 === 0);
  }

  /** The last known place at or before a position. */
  find(position: number): LogPlace | undefined {
    return this.#places[this.#countUpTo(position) - 1];
  }

  /** How many places are at or before a position. */
  #countUpTo(position: number): number {
    let low = 0;
    let high = this.#places.length;
    const last = this.#places[high - 1];
    if (last === undefined || last.position <= position) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      const place = this.#places[middle];
      if (place !== undefined && place.position <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
