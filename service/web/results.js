const KEPT = 6;
const KEPT_BYTES = 200e6;

/**
 * A picture that the service made.
 * @typedef {{image: HTMLImageElement | null, blob: Blob, fine: string}} Result
 */

/** The last results for one photo, so that going back and forth between styles costs nothing. */
export class Results {
  constructor() {
    /** @type {Map<string, Result>} */
    this.kept = new Map();
  }

  /** @param {string} key */
  get(key) {
    return this.kept.get(key);
  }

  /**
   * @param {string} key
   * @param {Result} result
   */
  keep(key, result) {
    this.kept.set(key, result);
    // The newest stays, however large it is: it is about to be shown.
    while (this.kept.size > 1 && this.isOverfull) this.drop(this.kept.keys().next().value);
  }

  get isOverfull() {
    const bytes = [...this.kept.values()].reduce((sum, { blob }) => sum + blob.size, 0);
    return this.kept.size > KEPT || bytes > KEPT_BYTES;
  }

  clear() {
    for (const key of [...this.kept.keys()]) this.drop(key);
  }

  drop(key) {
    discard(this.kept.get(key));
    this.kept.delete(key);
  }
}

/**
 * Frees what the browser keeps for a result.
 * @param {Result} result
 * @returns {null}
 */
export function discard({ image }) {
  if (image) URL.revokeObjectURL(image.src);
  return null;
}
