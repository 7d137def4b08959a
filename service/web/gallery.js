import { byId, make } from './dom.js';
import { Shelf } from './shelf.js';

const EMPTY_FRAMES = 10;

/** The wall of styles to choose from. */
export class Gallery {
  /**
   * @param {() => void} onChoice
   * @param {() => void} onAgain
   */
  constructor(onChoice, onAgain) {
    this.shelf = new Shelf(byId('gallery'), onChoice, onAgain);
    /** @type {Map<string, import('./api.js').Style>} */
    this.styles = new Map();
    /** @type {Map<string, HTMLElement>} */
    this.tiles = new Map();
    this.shelf.root.append(...Array.from({ length: EMPTY_FRAMES }, emptyTile));
  }

  /** @param {string} trouble why there are no styles yet */
  wait(trouble) {
    this.shelf.say(trouble);
  }

  /**
   * Hangs what is new, takes down what is gone and leaves the rest as it is.
   * @param {import('./api.js').Style[]} styles
   */
  fill(styles) {
    this.tiles = new Map(styles.map((style) => [style.name, this.tileOf(style)]));
    this.styles = new Map(styles.map((style) => [style.name, style]));
    this.shelf.say(styles.length ? '' : 'No styles here yet.');
    this.shelf.fill([...this.tiles.values()]);
  }

  /** @returns {import('./api.js').Style | undefined} */
  get choice() {
    return this.styles.get(this.shelf.value);
  }

  tileOf(style) {
    const tile = this.tiles.get(style.name) ?? make('label', { className: 'tile' }, radioOf(style));
    const isSame = JSON.stringify(style) === JSON.stringify(this.styles.get(style.name));
    const lacksPreview = style.preview && !tile.querySelector('img');
    if (!isSame || lacksPreview) furnish(tile, style);
    return tile;
  }
}

function emptyTile() {
  return make('div', { className: 'tile is-empty', ariaHidden: 'true' }, make('span', { className: 'tile-canvas' }));
}

function radioOf(style) {
  return make('input', { type: 'radio', name: 'style', value: style.name, autocomplete: 'off' });
}

/** The radio stays, and with it what is chosen and where the keyboard is. */
function furnish(tile, style) {
  while (tile.children.length > 1) tile.lastElementChild.remove();
  const canvas = make('span', { className: 'tile-canvas' });
  if (style.preview) canvas.append(preview(style));
  const title = make('span', { className: 'tile-title' }, make('span', {}, style.title || style.name));
  const artist = make('span', { className: 'tile-artist' }, style.artist);
  tile.append(canvas, title, artist);
}

function preview({ preview, digest }) {
  const image = make('img', { alt: '', decoding: 'async', loading: 'lazy', draggable: false, width: 256, height: 256 });
  image.addEventListener('error', () => image.remove());
  // The digest, so that the browser takes no old picture for that of a style that was trained again.
  image.src = `${preview}?of=${digest.slice(0, 16)}`;
  return image;
}
