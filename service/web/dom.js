/**
 * @param {string} id
 * @returns {any} the element; the page is known to have it
 */
export function byId(id) {
  return document.getElementById(id);
}

/** Puts the keyboard back among the choices, for when what had it goes away. */
export function focusChoices() {
  const choices = document.querySelector('.rail:not([hidden])');
  (choices.querySelector('input:checked') ?? choices.querySelector('input'))?.focus({ preventScroll: true });
}

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
