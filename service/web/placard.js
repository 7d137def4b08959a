import { byId } from './dom.js';
import { tellSeconds } from './timings.js';

const TICK_MS = 100;

/** The label beside the picture: what it is, and what is being done. */
export class Placard {
  constructor() {
    const label = byId('label');
    this.title = label.querySelector('.label-title');
    this.credit = label.querySelector('.label-credit');
    this.fine = label.querySelector('.label-fine');
    this.status = byId('status');
    this.progress = byId('progress');
    this.stage = byId('stage');
  }

  /**
   * @param {string} title
   * @param {string} credit
   * @param {string} fine small print: sizes and times
   */
  write(title, credit, fine = '') {
    this.rest();
    this.title.textContent = title;
    this.credit.textContent = credit;
    this.fine.textContent = fine;
  }

  /**
   * Shows that work goes on, with a clock, until the next `write` or `rest`.
   * @param {string} verb such as "Painting"
   * @param {string} title
   * @param {string} credit
   */
  work(verb, title, credit) {
    this.write(title, credit);
    this.verb = verb;
    const start = performance.now();
    this.clock = setInterval(() => this.tick(start), TICK_MS);
    this.tick(start);
    this.stage.ariaBusy = 'true';
    this.progress.classList.add('is-on');
    this.announce(`${verb}: ${title}`);
  }

  /** @param {string} verb what is being done now */
  turnTo(verb) {
    if (verb === this.verb) return;
    this.verb = verb;
    this.announce(verb);
  }

  rest() {
    clearInterval(this.clock);
    this.fine.textContent = '';
    this.stage.ariaBusy = 'false';
    this.progress.classList.remove('is-on');
  }

  /** @param {string} sentence for those who do not see the page */
  announce(sentence) {
    this.status.textContent = sentence;
  }

  tick(start) {
    this.fine.textContent = `${this.verb}, ${tellSeconds((performance.now() - start) / 1000)}`;
  }
}
