import { ApiError, orderPicture } from './api.js';
import { Compare } from './compare.js';
import { Dials } from './dials.js';
import { byId, focusChoices } from './dom.js';
import { formatOf, saveFile } from './download.js';
import { Factors } from './factors.js';
import { Gallery } from './gallery.js';
import { takePhotos } from './intake.js';
import { Notice } from './notice.js';
import { formatSize, loadImage, Photo } from './photo.js';
import { Placard } from './placard.js';
import { discard, Results } from './results.js';
import { tellSeconds, tellStages } from './timings.js';
import { enlargementWish, keyOf, paintingWish } from './wishes.js';

/** Long enough that arrow keys held down in the gallery order one painting, too short to notice after a click. */
const SETTLE_MS = 90;

class Studio {
  constructor() {
    this.compare = new Compare();
    this.placard = new Placard();
    this.results = new Results();
    this.notice = new Notice(() => this.refresh());
    this.gallery = new Gallery(() => this.settle());
    this.factors = new Factors(() => this.settle());
    this.dials = new Dials(() => this.settle());
    /** @type {Photo | null} */
    this.photo = null;
    this.work = new AbortController();
    takePhotos((file) => this.hang(file), (sentence) => this.notice.show(sentence, false));
    this.listen();
  }

  open() {
    this.gallery.open();
    this.factors.open();
    this.switchMode();
  }

  listen() {
    byId('modes').addEventListener('change', () => this.switchMode());
    byId('format').addEventListener('change', () => this.announceFormat());
    byId('download').addEventListener('click', () => this.download());
    byId('closer').addEventListener('click', () => this.look(!this.compare.isClose));
  }

  get isPainting() {
    return document.querySelector('input[name=mode]:checked').value === 'paint';
  }

  get format() {
    return byId('format').value;
  }

  /** @returns {import('./wishes.js').Wish | null} */
  get wish() {
    if (this.isPainting) {
      const style = this.gallery.choice;
      return style ? paintingWish(style, this.dials.params, this.format) : null;
    }
    const factor = this.factors.choice;
    return factor ? enlargementWish(factor, this.photo.file.name, this.format) : null;
  }

  async hang(file) {
    this.work.abort();
    this.notice.clear();
    const opening = (this.opening = Photo.open(file));
    const photo = await opening;
    if (opening !== this.opening) return photo.close();
    this.results.clear();
    this.photo?.close();
    this.photo = photo;
    this.present();
    this.refresh();
  }

  present() {
    if (byId('invite').contains(document.activeElement)) focusChoices();
    byId('invite').hidden = true;
    byId('actions').hidden = false;
    byId('format').value = formatOf(this.photo.file.type);
    this.factors.measure(this.photo.width, this.photo.height);
    this.look(false);
    this.compare.showPhoto(this.photo.image);
  }

  switchMode() {
    byId('paint').hidden = !this.isPainting;
    byId('enlarge').hidden = this.isPainting;
    this.refresh();
  }

  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.refresh(), SETTLE_MS);
  }

  /** Brings the wall in line with what is chosen. */
  refresh() {
    this.work.abort();
    this.notice.clear();
    if (!this.photo) return;
    const { wish } = this;
    if (!wish) return this.showPhotoAlone(this.isPainting ? 'Now choose a style.' : 'Now choose how large.');
    const known = this.results.get(keyOf(wish));
    return known ? this.showResult(wish, known) : this.fulfil(wish);
  }

  /** @param {string} next what the visitor might do */
  showPhotoAlone(next) {
    byId('download').disabled = true;
    this.compare.showResult(null);
    this.placard.write(this.photo.file.name, next, this.photo.facts);
    this.placard.announce(next && `Your photo is on the wall. ${next}`);
  }

  async fulfil(wish) {
    const result = await this.make(wish);
    if (!result) return;
    this.showResult(wish, result);
    this.placard.announce(`${wish.title} is ready.`);
  }

  /** @returns {Promise<import('./results.js').Result | null>} null if it failed, which is shown, or was overtaken */
  async make(wish) {
    this.work.abort();
    const { signal } = (this.work = new AbortController());
    byId('download').disabled = true;
    this.placard.work(wish.verb, wish.title, wish.credit);
    try {
      const result = await this.request(wish, signal);
      if (signal.aborted) return discard(result);
      this.results.keep(keyOf(wish), result);
      return result;
    } catch (error) {
      if (!signal.aborted) this.fail(error);
      return null;
    }
  }

  async request(wish, signal) {
    const start = performance.now();
    const onWait = (seconds) => this.placard.turnTo(`The studio is busy; asking again in ${Math.ceil(seconds)} s`);
    const { blob, timing } = await orderPicture(wish.order, this.photo.file, { signal, onWait });
    const seconds = (performance.now() - start) / 1000;
    const image = await loadImage(blob);
    const size = image ? formatSize(image.naturalWidth, image.naturalHeight) : '';
    return { image, blob, fine: [size, tellSeconds(seconds), tellStages(timing)].filter(Boolean).join(' · ') };
  }

  fail(error) {
    this.showPhotoAlone('');
    const isKnown = error instanceof ApiError;
    this.notice.show(isKnown ? error.message : 'Something went wrong in this page; try again.', true);
    if (!isKnown) throw error;
  }

  showResult(wish, result) {
    this.placard.write(wish.title, wish.credit, result.fine);
    this.compare.showResult(result.image, wish.tag);
    byId('download').disabled = false;
    if (!result.image) this.notice.show('This browser cannot show that format. The file is ready to download.', false);
  }

  announceFormat() {
    this.placard.announce(`Downloads will be ${this.format.toUpperCase()}.`);
  }

  /** The picture on the wall may be of another format than the one chosen since: then it is made once more. */
  async download() {
    const { wish } = this;
    const known = this.results.get(keyOf(wish));
    if (!known) await this.fulfil(wish);
    const result = this.results.get(keyOf(wish));
    if (result) saveFile(result.blob, `${this.photo.stem}-${wish.suffix}`);
  }

  /** @param {boolean} isClose */
  look(isClose) {
    byId('closer').ariaPressed = String(isClose);
    this.compare.look(isClose);
  }
}

new Studio().open();
