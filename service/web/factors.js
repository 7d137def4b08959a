import { byId, make } from './dom.js';
import { formatSize } from './photo.js';
import { Shelf } from './shelf.js';

/** The sizes to which a photo can be enlarged. */
export class Factors {
  /**
   * @param {() => void} onChoice
   * @param {() => void} onAgain
   */
  constructor(onChoice, onAgain) {
    this.shelf = new Shelf(byId('factors'), onChoice, onAgain);
    this.width = 0;
    this.height = 0;
    /** @type {Map<number, import('./api.js').Upscaler>} */
    this.upscalers = new Map();
    /** @type {Map<number, HTMLElement>} */
    this.options = new Map();
  }

  /** @param {string} trouble why there are no upscalers yet */
  wait(trouble) {
    this.shelf.say(trouble);
  }

  /** @param {import('./api.js').Upscaler[]} upscalers by factor */
  fill(upscalers) {
    this.upscalers = new Map(upscalers.map((upscaler) => [upscaler.factor, upscaler]));
    this.options = new Map(upscalers.map(({ factor }) => [factor, this.options.get(factor) ?? option(factor)]));
    this.shelf.say(upscalers.length ? '' : 'No upscalers here yet.');
    this.shelf.fill([...this.options.values()]);
    this.measure(this.width, this.height);
  }

  /**
   * Tells how large the photo would become; 0 by 0 if that is not known.
   * @param {number} width
   * @param {number} height
   */
  measure(width, height) {
    this.width = width;
    this.height = height;
    for (const size of this.shelf.root.querySelectorAll('.factor-size')) {
      const factor = Number(size.dataset.factor);
      size.textContent = width ? `${formatSize(width * factor, height * factor)} px` : `${factor} times as wide and high`;
    }
  }

  /** @returns {import('./api.js').Upscaler | undefined} */
  get choice() {
    return this.upscalers.get(Number(this.shelf.value));
  }
}

function option(factor) {
  const radio = make('input', { type: 'radio', name: 'factor', value: String(factor), autocomplete: 'off' });
  const times = make('span', { className: 'factor-times' }, make('span', {}, `×${factor}`));
  const size = make('span', { className: 'factor-size' });
  size.dataset.factor = String(factor);
  return make('label', { className: 'factor' }, radio, times, size);
}
