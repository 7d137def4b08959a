import { make } from './dom.js';

const PAUSE_MS = 2000;
const STARTING = 'The studio is being set up. A moment.';

/**
 * Asks for a list until it has something in it, and says beside `root` why that takes time.
 * @template T
 * @param {() => Promise<T[]>} list
 * @param {HTMLElement} root marked busy until then
 * @returns {Promise<T[]>}
 */
export async function untilListed(list, root) {
  const note = make('p', { className: 'waiting' });
  note.setAttribute('role', 'status');
  root.after(note);
  for (;;) {
    const { found, trouble } = await attempt(list);
    if (found.length) {
      note.remove();
      root.ariaBusy = 'false';
      return found;
    }
    if (note.textContent !== trouble) note.textContent = trouble;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function attempt(list) {
  try {
    return { found: await list(), trouble: STARTING };
  } catch (error) {
    return { found: [], trouble: error.message };
  }
}
