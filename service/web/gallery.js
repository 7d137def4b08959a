import { listStyles } from './api.js';
import { byId, make } from './dom.js';
import { untilListed } from './waiting.js';

const EMPTY_FRAMES = 10;

/** The wall of styles to choose from. */
export class Gallery {
  /** @param {() => void} onChoice */
  constructor(onChoice) {
    this.root = byId('gallery');
    /** @type {Map<string, import('./api.js').Style>} */
    this.styles = new Map();
    this.root.addEventListener('change', onChoice);
    this.root.append(...Array.from({ length: EMPTY_FRAMES }, emptyTile));
  }

  /** Fills the wall as soon as the service has styles. */
  async open() {
    const styles = await untilListed(listStyles, this.root);
    this.styles = new Map(styles.map((style) => [style.name, style]));
    this.root.replaceChildren(...styles.map(tile));
  }

  /** @returns {import('./api.js').Style | undefined} */
  get choice() {
    return this.styles.get(this.root.querySelector('input:checked')?.value);
  }
}

function emptyTile() {
  return make('div', { className: 'tile is-empty', ariaHidden: 'true' }, make('span', { className: 'tile-canvas' }));
}

function tile(style) {
  const radio = make('input', { type: 'radio', name: 'style', value: style.name, autocomplete: 'off' });
  const canvas = make('span', { className: 'tile-canvas' });
  if (style.preview) canvas.append(preview(style.preview));
  const title = make('span', { className: 'tile-title' }, make('span', {}, style.title || style.name));
  const artist = make('span', { className: 'tile-artist' }, style.artist);
  return make('label', { className: 'tile' }, radio, canvas, title, artist);
}

function preview(path) {
  const image = make('img', { alt: '', decoding: 'async', loading: 'lazy', draggable: false, width: 256, height: 256 });
  image.addEventListener('error', () => image.remove());
  image.src = path;
  return image;
}
