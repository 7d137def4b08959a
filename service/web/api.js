import { askForKey, keyHeaders, storedKey } from './keyring.js';

const ATTEMPTS = 4;
const LONGEST_WAIT_S = 30;
const LARGE_FILE_BYTES = 8e6;

/**
 * @typedef {{name: string, title: string, artist: string, year: string, terms: string, preview: string | null}} Style
 * @typedef {{name: string, factor: number}} Upscaler
 * @typedef {{path: string, params: Record<string, string | number | boolean>}} Order
 * @typedef {{signal: AbortSignal, onWait: (seconds: number) => void}} Watch
 */

/** A refusal, with a sentence to show. */
export class ApiError extends Error {
  /**
   * @param {string} detail
   * @param {number} retryAfter seconds after which the service wants to be asked again; 0 if it does not
   */
  constructor(detail, retryAfter = 0) {
    super(detail);
    this.retryAfter = retryAfter;
  }
}

/** @returns {Promise<Style[]>} */
export async function listStyles() {
  return (await send('/styles')).json();
}

/** @returns {Promise<Upscaler[]>} */
export async function listUpscalers() {
  return (await send('/upscalers')).json();
}

/**
 * Orders a picture of `file`; asks again while the service says it is busy.
 * @param {Order} order
 * @param {File} file
 * @param {Watch} watch
 * @returns {Promise<{blob: Blob, timing: string}>} the picture and its `Server-Timing`
 */
export async function orderPicture(order, file, { signal, onWait }) {
  const url = `${order.path}?${new URLSearchParams(Object.entries(order.params).map(([k, v]) => [k, String(v)]))}`;
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await send(url, { method: 'POST', body: file, signal });
      return { blob: await readPicture(response), timing: response.headers.get('Server-Timing') ?? '' };
    } catch (error) {
      if (!worthAnotherTry(error, attempt)) throw error;
      onWait(error.retryAfter);
      await pause(error.retryAfter, signal);
    }
  }
}

async function readPicture(response) {
  try {
    return await response.blob();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The connection broke off while the picture was on its way.');
  }
}

function worthAnotherTry(error, attempt) {
  return error.retryAfter > 0 && error.retryAfter <= LONGEST_WAIT_S && attempt < ATTEMPTS;
}

async function send(url, options = {}) {
  const key = storedKey();
  const response = await reach(url, { ...options, headers: keyHeaders() });
  if (response.status === 401) {
    if (!(await askForKey(key))) throw await refusal(response);
    return send(url, options);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(await whyUnreachable(options.body));
  }
}

/** A server that stops reading a large upload can cut the connection before the browser sees its answer. */
async function whyUnreachable(file) {
  if (file && !(await isReadable(file))) return 'The file cannot be read any more; choose it again.';
  if (file?.size > LARGE_FILE_BYTES && (await isAlive())) {
    return 'The service broke off the upload. The file is probably larger than it takes; try a smaller one.';
  }
  return 'The service cannot be reached. Check that it is running and that you are online.';
}

/** A folder, or a file that has been changed, moved or removed since it was chosen, is not. */
async function isReadable(file) {
  return file.slice(0, 1).arrayBuffer().then(
    () => true,
    () => false,
  );
}

async function isAlive() {
  return fetch('/livez').then(
    (response) => response.ok,
    () => false,
  );
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = typeof problem.detail === 'string' ? problem.detail : `The service answered ${response.status}.`;
  const busy = response.status === 503 || response.status === 429;
  return new ApiError(detail, busy ? retryAfter(response) : 0);
}

function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After'));
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
