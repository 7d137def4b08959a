import { listStyles, listUpscalers } from './api.js';

const PAUSE_MS = 2000;
const STARTING = 'The studio is being set up. A moment.';

/** @returns {Promise<[import('./api.js').Style[], import('./api.js').Upscaler[]]>} what the service offers now */
export function listAll() {
  return Promise.all([listStyles(), listUpscalers()]);
}

/**
 * Asks what the service offers until that is something. In tabs that nobody sees it does not ask.
 * @param {(trouble: string) => void} onTrouble called with why that takes time
 */
export async function untilStocked(onTrouble) {
  for (;;) {
    const { lists, trouble } = await attempt();
    if (lists.some((list) => list.length)) return lists;
    onTrouble(trouble);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    await untilSeen();
  }
}

async function attempt() {
  try {
    return { lists: await listAll(), trouble: STARTING };
  } catch (error) {
    return { lists: [], trouble: error.message };
  }
}

async function untilSeen() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  }
}
