import { ApiError, refusal } from './errors.js';
import { askForKey, keyHeaders, storedKey } from './keyring.js';

/**
 * @typedef {{name: string, title: string, artist: string, year: string, terms: string, digest: string, preview: string | null}} Style
 * @typedef {{name: string, factor: number, digest: string}} Upscaler
 */

/** @returns {Promise<Style[]>} */
export async function listStyles() {
  return readJson(await send('/styles'));
}

/** @returns {Promise<Upscaler[]>} */
export async function listUpscalers() {
  return readJson(await send('/upscalers'));
}

/**
 * Sends a request with the visitor's key, and asks for one where the service wants it.
 * @param {string} url
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} one that is ok
 */
export async function send(url, options = {}) {
  const key = storedKey();
  const response = await reach(url, { ...options, headers: { ...options.headers, ...keyHeaders() } });
  if (response.status === 401) {
    if (!(await askForKey(key))) throw await refusal(response);
    return send(url, options);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {Response} response */
export function readJson(response) {
  return read(response, 'application/json', () => response.json());
}

/**
 * @param {Response} response
 * @returns {Promise<Blob>}
 */
export function readPicture(response) {
  return read(response, 'image/', () => response.blob());
}

/** Where a network wants its users to sign in first, its own page comes in place of any answer. */
async function read(response, mediaType, take) {
  if (!response.headers.get('Content-Type')?.startsWith(mediaType)) {
    throw new ApiError('What answered is not the studio. If this network asks you to sign in, do that and try again.');
  }
  try {
    return await take();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The connection broke off while the answer was on its way. Try again.');
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw await whyUnreachable(options.body);
  }
}

/** A server that stops reading an upload can cut the connection before the browser sees its answer. */
async function whyUnreachable(file) {
  if (file && !(await isReadable(file))) {
    return new ApiError('The file cannot be read any more; choose it again.', 400, 'unreadable-file');
  }
  if (file && (await isAlive())) {
    return new ApiError(
      'The service broke off the upload: the file may be too large, the connection too slow, or the service busy. ' +
        'Try again, or a smaller photo.',
    );
  }
  return new ApiError('The service cannot be reached. Check that it is running and that you are online.', 0, 'unreachable');
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
