import { byId, focusChoices } from './dom.js';

/** One sentence about what went wrong, on the wall itself. */
export class Notice {
  /** @param {() => void} onRetry */
  constructor(onRetry) {
    this.root = byId('notice');
    this.text = this.root.querySelector('.notice-text');
    this.retry = this.root.querySelector('.notice-retry');
    this.close = this.root.querySelector('.notice-close');
    this.retry.addEventListener('click', () => {
      this.clear();
      onRetry();
    });
    this.close.addEventListener('click', () => this.clear());
  }

  /**
   * @param {string} sentence
   * @param {boolean} canRetry
   */
  show(sentence, canRetry) {
    this.root.classList.add('is-on');
    this.text.textContent = sentence;
    this.retry.hidden = !canRetry;
    this.close.hidden = false;
  }

  clear() {
    if (this.root.contains(document.activeElement)) focusChoices();
    this.root.classList.remove('is-on');
    this.text.textContent = '';
    this.retry.hidden = true;
    this.close.hidden = true;
  }
}
