import { listAll, untilStocked } from './catalog.js';
import { Compare } from './compare.js';
import { Dials } from './dials.js';
import { byId, focusChoices } from './dom.js';
import { formatOf, saveFile } from './download.js';
import { ApiError } from './errors.js';
import { Factors } from './factors.js';
import { Gallery } from './gallery.js';
import { takePhotos } from './intake.js';
import { Notice } from './notice.js';
import { orderPicture } from './orders.js';
import { formatSize, loadImage, Photo } from './photo.js';
import { Placard } from './placard.js';
import { discard, Results } from './results.js';
import { tellSeconds, tellStages } from './timings.js';
import { enlargementWish, inFormat, keyOf, paintingWish } from './wishes.js';

/** Long enough that arrow keys held down in the gallery order one painting, too short to notice after a click. */
const SETTLE_MS = 90;

/** Kinds of refusals that say that the lists on the page are old. */
const OUTDATED = ['unknown-style', 'unknown-factor'];

class Studio {
  constructor() {
    this.compare = new Compare();
    this.placard = new Placard();
    this.results = new Results();
    this.notice = new Notice(() => this.refresh());
    const choosing = [() => this.settle(), () => this.askAgain()];
    this.gallery = new Gallery(...choosing);
    this.factors = new Factors(...choosing);
    this.dials = new Dials(() => this.settle());
    /** @type {Photo | null} */
    this.photo = null;
    /** @type {Promise<Photo> | null} */
    this.opening = null;
    /** @type {import('./wishes.js').Wish | null} whose result is on the wall */
    this.hung = null;
    this.work = new AbortController();
    this.isWorking = false;
    this.hasFormat = false;
    takePhotos((file) => this.hang(file), (sentence) => this.notice.show(sentence, false));
    this.listen();
  }

  async open() {
    this.switchMode();
    const lists = await untilStocked((trouble) => this.shelves.forEach((shelf) => shelf.wait(trouble)));
    this.stock(lists);
    if (!lists[this.isPainting ? 0 : 1].length) this.chooseOtherMode();
    document.addEventListener('visibilitychange', () => document.hidden || this.restock());
  }

  listen() {
    byId('modes').addEventListener('change', () => this.switchMode());
    byId('format').addEventListener('change', () => this.chooseFormat());
    byId('download').addEventListener('click', () => this.download());
    byId('closer').addEventListener('click', () => this.look(!this.compare.isClose));
    // A job that is followed would else go on for nobody. A page that is kept may come back to it.
    window.addEventListener('pagehide', ({ persisted }) => persisted || this.work.abort());
  }

  get shelves() {
    return [this.gallery, this.factors];
  }

  get isPainting() {
    return document.querySelector('input[name=mode]:checked').value === 'paint';
  }

  get format() {
    return byId('format').value;
  }

  /** @returns {import('./wishes.js').Wish | null} */
  get wish() {
    if (!this.photo) return null;
    if (this.isPainting) {
      const style = this.gallery.choice;
      return style ? paintingWish(style, this.dials.params, this.photo, this.format) : null;
    }
    const upscaler = this.factors.choice;
    return upscaler ? enlargementWish(upscaler, this.photo, this.format) : null;
  }

  stock([styles, upscalers]) {
    this.gallery.fill(styles);
    this.factors.fill(upscalers);
  }

  /** Styles come and go while the page is open. Where the service does not answer, the old lists stay. */
  async restock() {
    const lists = await listAll().catch(() => []);
    if (lists.some((list) => list.length)) this.stock(lists);
  }

  async hang(file) {
    this.stop();
    this.hung = null;
    this.offerDownload(false);
    this.placard.work('Opening', file.name, '');
    const opening = (this.opening = Photo.open(file));
    const photo = await opening;
    if (opening !== this.opening) return photo.close();
    this.opening = null;
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
    if (!this.hasFormat) byId('format').value = formatOf(this.photo.file.type);
    this.factors.measure(this.photo.width, this.photo.height);
    this.look(false);
    this.compare.showPhoto(this.photo.image);
  }

  chooseOtherMode() {
    document.querySelector('input[name=mode]:not(:checked)').checked = true;
    this.switchMode();
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

  /** What is chosen was clicked: a wish where its picture is not there, as after a failure. */
  askAgain() {
    if (!this.hung && !this.isWorking) this.settle();
  }

  stop() {
    this.work.abort();
    this.isWorking = false;
    this.notice.clear();
  }

  /** Brings the wall in line with what is chosen. */
  refresh() {
    clearTimeout(this.settling);
    this.stop();
    if (!this.photo || this.opening) return;
    const { wish } = this;
    if (!wish) return this.showPhotoAlone(this.isPainting ? 'Now choose a style.' : 'Now choose how large.');
    const known = this.results.get(keyOf(wish));
    return known ? this.showResult(wish, known) : this.fulfil(wish);
  }

  /** @param {string} next what the visitor might do */
  showPhotoAlone(next) {
    this.hung = null;
    this.offerDownload(false);
    this.compare.showResult(null);
    this.placard.write(this.photo.file.name, next, this.photo.facts);
    this.placard.announce(next && `Your photo is on the wall. ${next}`);
  }

  async fulfil(wish) {
    const result = await this.make(wish);
    if (result) this.showResult(wish, result);
    return result;
  }

  /** @returns {Promise<import('./results.js').Result | null>} null if it failed, which is shown, or was overtaken */
  async make(wish) {
    this.work.abort();
    const { signal } = (this.work = new AbortController());
    this.isWorking = true;
    this.offerDownload(false);
    this.placard.work(wish.verb, wish.title, wish.credit);
    try {
      const result = await this.request(wish, signal);
      if (signal.aborted) return discard(result);
      this.results.keep(keyOf(wish), result);
      this.isWorking = false;
      return result;
    } catch (error) {
      if (!signal.aborted) this.fail(wish, error);
      return null;
    }
  }

  async request(wish, signal) {
    const start = performance.now();
    const tell = (state) => this.placard.turnTo(state || wish.verb);
    const { blob, timing } = await orderPicture(wish.order, this.photo.file, { signal, tell });
    const seconds = (performance.now() - start) / 1000;
    const image = await loadImage(blob);
    const size = image ? formatSize(image.naturalWidth, image.naturalHeight) : '';
    return { image, blob, fine: [size, tellSeconds(seconds), tellStages(timing)].filter(Boolean).join(' · ') };
  }

  fail(wish, error) {
    this.isWorking = false;
    const kept = this.keptLike(wish);
    if (kept) this.hangResult(kept, this.results.get(keyOf(kept)));
    else this.showPhotoAlone('');
    this.placard.announce('');
    const isKnown = error instanceof ApiError;
    if (isKnown) this.notice.show(error.message, error.canRetry);
    else this.notice.show('Something went wrong in this page; try again.', true);
    if (OUTDATED.includes(error.type)) this.restock();
    if (!isKnown) throw error;
  }

  /** The wish for the same picture in a format in which it is there. */
  keptLike(wish) {
    const wishes = [...byId('format').options].map(({ value }) => inFormat(wish, value));
    return wishes.find((like) => this.results.get(keyOf(like)));
  }

  showResult(wish, result) {
    this.hangResult(wish, result);
    this.placard.announce(`${wish.title} is ready.`);
    if (!result.image) this.notice.show('This browser cannot show this picture. The file is ready to download.', false);
  }

  hangResult(wish, result) {
    this.hung = wish;
    this.placard.write(wish.title, wish.credit, result.fine);
    this.compare.showResult(result.image, wish.tag);
    this.offerDownload(true);
  }

  /** Not `disabled`, which would take the keyboard from the button while a picture is made. */
  offerDownload(isReady) {
    byId('download').ariaDisabled = String(!isReady);
  }

  chooseFormat() {
    this.hasFormat = true;
    // What could not be made in one format may be made in another.
    if (!this.hung && !this.isWorking && this.wish) this.refresh();
    else this.placard.announce(`Downloads will be ${this.format.toUpperCase()}.`);
  }

  /** The picture on the wall may be of another format than the one chosen since: then it is made once more. */
  async download() {
    if (!this.hung || this.isWorking) return;
    const wish = inFormat(this.hung, this.format);
    const result = this.results.get(keyOf(wish)) ?? (await this.fulfil(wish));
    if (result) saveFile(result.blob, `${this.photo.stem}-${wish.suffix}`);
  }

  /** @param {boolean} isClose */
  look(isClose) {
    byId('closer').ariaPressed = String(isClose);
    this.compare.look(isClose);
  }
}

new Studio().open();
