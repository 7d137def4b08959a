import { focusChoices, make } from './dom.js';

/** A list of choices, one of which can be chosen, and a line beside it while there are none. */
export class Shelf {
  /**
   * @param {HTMLElement} root marked busy until the first `fill`
   * @param {() => void} onChoice
   * @param {() => void} onAgain called when what is chosen already is clicked, and now and then besides
   */
  constructor(root, onChoice, onAgain) {
    this.root = root;
    this.line = make('p', { className: 'waiting' });
    this.line.setAttribute('role', 'status');
    root.after(this.line);
    root.addEventListener('change', onChoice);
    root.addEventListener('click', ({ target }) => target.matches('input') && onAgain());
  }

  /** @param {string} sentence why there is nothing to choose; '' if there is */
  say(sentence) {
    if (this.line.textContent !== sentence) this.line.textContent = sentence;
  }

  /**
   * Those that stay are not moved, which would take the keyboard from them.
   * @param {Element[]} choices
   */
  fill(choices) {
    const hadFocus = this.root.contains(document.activeElement);
    this.root.ariaBusy = 'false';
    const staying = new Set(choices);
    for (const old of [...this.root.children]) if (!staying.has(old)) old.remove();
    let next = this.root.firstElementChild;
    for (const choice of choices) {
      if (choice === next) next = next.nextElementSibling;
      else this.root.insertBefore(choice, next);
    }
    if (hadFocus && !this.root.contains(document.activeElement)) focusChoices();
  }

  /** @returns {string | undefined} value of what is chosen */
  get value() {
    return this.root.querySelector('input:checked')?.value;
  }
}
