import { readJson, readPicture, send } from './api.js';
import { errorOf } from './errors.js';
import { keyHeaders } from './keyring.js';
import { pause } from './pause.js';

const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 4;
/** From one pause to the next. */
const GROWTH = 1.25;
/** A job outlives a connection that is lost for a while, and a service that is started anew. */
const FAILURES_IN_A_ROW = 10;

/**
 * @typedef {object} Job
 * @property {'queued' | 'started' | 'finished' | 'failed' | 'canceled'} status
 * @property {number} [ahead]
 * @property {{status: number, type: string, detail: string}} [problem]
 * @property {{self: string, result: string}} links
 */

/**
 * Waits for a job's picture, and takes the job back if that is called off.
 * @param {Job} job
 * @param {import('./orders.js').Watch} watch
 * @returns {Promise<import('./orders.js').Picture>}
 */
export async function followJob({ links }, { signal, tell }) {
  // At once where it is called off: the page may be on its way out.
  const letGo = () => forget(links.self);
  signal.addEventListener('abort', letGo, { once: true });
  try {
    await untilFinished(links.self, signal, tell);
    return await patiently(() => fetchPicture(links.result, signal), signal);
  } finally {
    signal.removeEventListener('abort', letGo);
    if (!signal.aborted) letGo();
  }
}

async function untilFinished(url, signal, tell) {
  let told;
  for (let pauseS = FIRST_PAUSE_S; ; pauseS = Math.min(pauseS * GROWTH, LONGEST_PAUSE_S)) {
    const job = await patiently(async () => readJson(await send(url, { signal })), signal);
    if (job.status === 'finished') return;
    if (job.status === 'failed') throw errorOf(job.problem ?? {}, job.problem?.status ?? 500);
    if (job.status === 'canceled') throw errorOf({ type: 'job-canceled' }, 409);
    const state = tellPlace(job);
    if (state !== told) tell((told = state));
    await pause(pauseS, signal);
  }
}

/** @param {Job} job */
function tellPlace({ status, ahead = 0 }) {
  if (status !== 'queued') return '';
  return ahead ? `Waiting behind ${ahead} ${ahead === 1 ? 'other' : 'others'}` : 'Waiting for its turn';
}

async function fetchPicture(url, signal) {
  const response = await send(url, { signal });
  return { blob: await readPicture(response), timing: response.headers.get('Server-Timing') ?? '' };
}

async function patiently(ask, signal) {
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!error.canRetry || error.status === 401 || failures > FAILURES_IN_A_ROW) throw error;
      await pause(Math.max(error.retryAfter, LONGEST_PAUSE_S), signal);
    }
  }
}

/** Nobody waits for the answer: a job that has begun ends by itself. */
function forget(url) {
  fetch(url, { method: 'DELETE', headers: keyHeaders(), keepalive: true }).catch(() => {});
}
