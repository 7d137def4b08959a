import { byId } from './dom.js';

/** Strength, colours and size of a painting. */
export class Dials {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.strength = byId('strength');
    this.preserve = byId('preserve');
    this.size = byId('size');
    this.strength.addEventListener('input', () => this.tell());
    byId('dials').addEventListener('change', onChange);
    this.tell();
  }

  /** @returns {Record<string, string | number | boolean>} parameters of `/stylize`; what stands at its default is left out */
  get params() {
    return {
      ...(this.strength.value !== '100' && { strength: Number(this.strength.value) / 100 }),
      ...(this.preserve.checked && { preserve_color: true }),
      ...(this.size.value && { size: Number(this.size.value) }),
    };
  }

  tell() {
    const text = `${this.strength.value}%`;
    byId('strength-value').textContent = text;
    this.strength.ariaValueText = text;
    this.strength.style.setProperty('--filled', text);
  }
}
