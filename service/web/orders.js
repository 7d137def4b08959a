import { readJson, readPicture, send } from './api.js';
import { followJob } from './jobs.js';
import { pause } from './pause.js';

const ATTEMPTS = 4;
const LONGEST_PAUSE_S = 30;

/** What a long order asks for: the picture itself where it is ready in so many seconds, else a job to follow. */
const PREFERENCE = 'respond-async, wait=10';

/**
 * @typedef {object} Order
 * @property {string} path
 * @property {Record<string, string | number | boolean>} params
 * @property {boolean} isLong whether it may take longer than the service lets a request wait
 *
 * @typedef {object} Watch
 * @property {AbortSignal} signal
 * @property {(state: string) => void} tell called with what the order waits for; '' once it is worked on again
 *
 * @typedef {{blob: Blob, timing: string}} Picture a picture and its `Server-Timing`
 */

/**
 * Orders a picture of `file`; asks again while the service says it is busy.
 * @param {Order} order
 * @param {File} file
 * @param {Watch} watch
 * @returns {Promise<Picture>}
 */
export async function orderPicture(order, file, watch) {
  const url = `${order.path}?${new URLSearchParams(Object.entries(order.params).map(([k, v]) => [k, String(v)]))}`;
  let { isLong } = order;
  let pauseS = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      return await take(url, file, isLong, watch);
    } catch (error) {
      if (error.status === 504 && !isLong) {
        isLong = true;
        watch.tell('This takes longer; ordering it once more');
        continue;
      }
      // A service that was busy and is gone now is being started anew.
      if (error.type !== 'unreachable') pauseS = error.retryAfter ?? 0;
      if (pauseS <= 0 || pauseS > LONGEST_PAUSE_S || attempt >= ATTEMPTS) throw error;
      watch.tell(`The studio is busy; asking again in ${Math.ceil(pauseS)} s`);
      await pause(pauseS, watch.signal);
      watch.tell('');
    }
  }
}

async function take(url, file, isLong, watch) {
  const headers = isLong ? { Prefer: PREFERENCE } : {};
  const response = await send(url, { method: 'POST', body: file, headers, signal: watch.signal });
  if (response.status === 202) return followJob(await readJson(response), watch);
  return { blob: await readPicture(response), timing: response.headers.get('Server-Timing') ?? '' };
}
