import { listUpscalers } from './api.js';
import { byId, make } from './dom.js';
import { formatSize } from './photo.js';
import { untilListed } from './waiting.js';

/** The sizes to which a photo can be enlarged. */
export class Factors {
  /** @param {() => void} onChoice */
  constructor(onChoice) {
    this.root = byId('factors');
    this.width = 0;
    this.height = 0;
    this.root.addEventListener('change', onChoice);
  }

  /** Lists the factors as soon as the service has some. */
  async open() {
    const upscalers = await untilListed(listUpscalers, this.root);
    const factors = [...new Set(upscalers.map(({ factor }) => factor))].sort((a, b) => a - b);
    this.root.replaceChildren(...factors.map(option));
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
    for (const size of this.root.querySelectorAll('.factor-size')) {
      const factor = Number(size.dataset.factor);
      size.textContent = width ? `${formatSize(width * factor, height * factor)} px` : `${factor} times as wide and high`;
    }
  }

  /** @returns {number | undefined} */
  get choice() {
    const radio = this.root.querySelector('input:checked');
    return radio ? Number(radio.value) : undefined;
  }
}

function option(factor) {
  const radio = make('input', { type: 'radio', name: 'factor', value: String(factor), autocomplete: 'off' });
  const times = make('span', { className: 'factor-times' }, make('span', {}, `×${factor}`));
  const size = make('span', { className: 'factor-size' });
  size.dataset.factor = String(factor);
  return make('label', { className: 'factor' }, radio, times, size);
}
