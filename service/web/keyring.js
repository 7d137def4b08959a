import { byId } from './dom.js';

const SLOT = 'impasto.api-key';

/** @type {Promise<boolean> | null} */
let asking = null;

/** For browsers that keep nothing. */
let remembered = null;

/** @returns {string | null} */
export function storedKey() {
  try {
    return sessionStorage.getItem(SLOT);
  } catch {
    return remembered;
  }
}

/** @returns {Record<string, string>} headers to send with a request */
export function keyHeaders() {
  const key = storedKey();
  return key ? { 'X-API-Key': key } : {};
}

/**
 * Asks the visitor for a key, once for all requests that were refused together.
 * @param {string | null} refused the key that was refused
 * @returns {Promise<boolean>} whether there is another key to try
 */
export function askForKey(refused) {
  if (!asking && storedKey() !== refused) return Promise.resolve(true);
  asking ??= openDialog(refused).finally(() => {
    asking = null;
  });
  return asking;
}

function openDialog(refused) {
  const dialog = byId('keyring');
  if (refused) byId('keyring-why').textContent = 'The service did not accept that key. Check it and try once more.';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(keep(dialog.returnValue)), { once: true });
  });
}

function keep(answer) {
  const field = byId('key');
  // What is copied from a chat may carry characters that nobody sees, and no header can.
  const given = answer === 'use' && field.value.replace(/[^\x21-\x7e]/g, '');
  if (given) store(given);
  field.value = '';
  return Boolean(given);
}

function store(key) {
  try {
    sessionStorage.setItem(SLOT, key);
  } catch {
    remembered = key;
  }
}
