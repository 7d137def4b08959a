import { make } from './dom.js';

const EXTENSIONS = { jpeg: 'jpg', png: 'png', webp: 'webp', avif: 'avif' };
/** Formats that the service reads and does not write; those that lose nothing become PNG. */
const LOSSLESS = ['gif', 'tiff', 'bmp', 'x-ms-bmp'];

/** What the visitor's browser needs to begin reading a download before its URL goes; it may ask where to put it first. */
const GRACE_MS = 60_000;

/**
 * @param {Blob} blob
 * @param {string} stem file name without extension
 */
export function saveFile(blob, stem) {
  const url = URL.createObjectURL(blob);
  make('a', { href: url, download: `${stem}.${EXTENSIONS[formatOf(blob.type)]}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), GRACE_MS);
}

/**
 * @param {string} mediaType
 * @returns {string} the format the service would write for it: the same where it can, else PNG or JPEG
 */
export function formatOf(mediaType) {
  const format = mediaType.replace(/^image\//, '').replace(/;.*/, '');
  if (format in EXTENSIONS) return format;
  return LOSSLESS.includes(format) ? 'png' : 'jpeg';
}
