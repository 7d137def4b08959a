import { byId } from './dom.js';

const HALF = 50;
/** "Look closer" shows one pixel of the picture on one of the screen, and enlarges at least this much. */
const LEAST_ZOOM = 2;

/** Two pictures over each other, with a divider to move and a closer look. */
export class Compare {
  constructor() {
    this.root = byId('compare');
    this.stage = byId('stage');
    this.view = this.root.querySelector('.compare-view');
    this.canvas = this.root.querySelector('.compare-canvas');
    this.before = this.root.querySelector('.compare-before');
    this.absent = this.root.querySelector('.compare-absent');
    this.after = this.root.querySelector('.compare-after');
    this.range = this.root.querySelector('.compare-range');
    this.isClose = false;
    new ResizeObserver(() => this.layout()).observe(this.stage);
    this.range.addEventListener('input', () => this.divide(Number(this.range.value)));
    this.view.addEventListener('scroll', () => this.cut());
    this.root.addEventListener('pointerdown', (event) => this.grab(event));
  }

  /**
   * @param {HTMLImageElement | null} image none where the browser cannot show the photo
   */
  showPhoto(image) {
    this.before = this.exchange(this.before, image ?? new Image(), 'compare-before');
    this.before.alt = 'Your photo';
    this.before.hidden = !image;
    this.absent.hidden = Boolean(image);
    this.root.hidden = false;
    this.showResult(null);
  }

  /**
   * @param {HTMLImageElement | null} image none to show the photo alone
   * @param {string} tag what was done to the photo, in a word
   */
  showResult(image, tag = '') {
    const isFirst = this.after.hidden && image;
    this.after = this.exchange(this.after, image ?? new Image(), 'compare-after');
    this.after.alt = image ? `Your photo, ${tag.toLowerCase()}` : '';
    for (const part of this.root.querySelectorAll('.compare-after, .compare-tag, .compare-range, .compare-divider')) {
      part.hidden = !image;
    }
    this.root.querySelector('.is-after').textContent = tag;
    this.layout();
    if (isFirst) this.unveil();
  }

  /** @param {boolean} isClose */
  look(isClose) {
    this.isClose = isClose;
    this.layout();
    this.view.scrollLeft = (this.canvas.offsetWidth - this.view.clientWidth) / 2;
    this.view.scrollTop = (this.canvas.offsetHeight - this.view.clientHeight) / 2;
  }

  exchange(old, image, className) {
    image.className = className;
    image.draggable = false;
    old.replaceWith(image);
    return image;
  }

  layout() {
    this.root.classList.remove('is-unveiling');
    const shown = this.after.naturalWidth ? this.after : this.before;
    const width = shown.naturalWidth || 4;
    const height = shown.naturalHeight || 3;
    const box = this.room();
    const fit = Math.min(box.width / width, box.height / height);
    const scale = this.isClose ? Math.max(1 / devicePixelRatio, fit * LEAST_ZOOM) : fit;
    resize(this.canvas, width * scale, height * scale);
    resize(this.root, Math.min(width * scale, box.width), Math.min(height * scale, box.height));
    this.root.classList.toggle('is-close', this.isClose);
    this.view.tabIndex = this.isClose ? 0 : -1;
    this.cut();
  }

  room() {
    const style = getComputedStyle(this.stage);
    return {
      width: Math.max(1, this.stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)),
      height: Math.max(1, this.stage.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom)),
    };
  }

  /** @param {number} percent of the view that shows the photo */
  divide(percent) {
    this.root.classList.remove('is-unveiling');
    this.range.value = String(percent);
    this.range.ariaValueText = `${Math.round(percent)}% photo`;
    this.cut();
  }

  cut() {
    const share = this.after.hidden ? 1 : Number(this.range.value) / 100;
    const width = this.root.clientWidth;
    this.root.style.setProperty('--divider', `${share * width}px`);
    this.canvas.style.setProperty('--cut', `${this.after.hidden ? this.canvas.offsetWidth : this.view.scrollLeft + share * width}px`);
  }

  unveil() {
    this.divide(100);
    // Reading a size makes the start of the transition count.
    void this.root.offsetWidth;
    this.divide(HALF);
    this.root.classList.add('is-unveiling');
  }

  grab(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const onGrip = event.target.closest('.compare-grip');
    if (this.isClose && !onGrip) this.pan(event);
    else if (!this.after.hidden) this.dragDivider(event);
  }

  dragDivider(event) {
    const box = this.root.getBoundingClientRect();
    // A finger that comes down may be about to scroll the page, until it goes sideways; one that goes up again has tapped.
    let mayScroll = event.pointerType === 'touch';
    const follow = (at) => {
      mayScroll &&= at.type !== 'pointerup' && !goesSideways(event, at);
      if (!mayScroll) this.divide(Math.min(100, Math.max(0, ((at.clientX - box.left) / box.width) * 100)));
    };
    if (!mayScroll) follow(event);
    this.track(event, follow);
    this.range.focus({ preventScroll: true, focusVisible: false });
  }

  /** Touch scrolls by itself. */
  pan(event) {
    if (event.pointerType !== 'mouse') return;
    this.track(event, ({ movementX, movementY }) => this.view.scrollBy(-movementX, -movementY));
  }

  track(event, follow) {
    event.preventDefault();
    this.root.setPointerCapture(event.pointerId);
    const end = new AbortController();
    const listen = (types, listener) => {
      const ofThisPointer = (at) => at.pointerId === event.pointerId && listener(at);
      for (const type of types) this.root.addEventListener(type, ofThisPointer, { signal: end.signal });
    };
    listen(['pointermove', 'pointerup'], follow);
    listen(['pointerup', 'pointercancel', 'lostpointercapture'], () => end.abort());
  }
}

function goesSideways(from, to) {
  return Math.abs(to.clientX - from.clientX) > Math.abs(to.clientY - from.clientY);
}

function resize(element, width, height) {
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
}
