/** Pixels that a processor without a GPU paints, or makes of a photo, in a third of the time that a request may wait. */
const QUICKLY_PAINTED_PX = 8e6;
const QUICKLY_ENLARGED_PX = 16e6;

/**
 * What the visitor wants of the photo, and how to speak of it.
 * @typedef {object} Wish
 * @property {import('./orders.js').Order} order
 * @property {string} digest of the weights, so that a picture of others is not taken for it
 * @property {string} verb what the service is doing meanwhile
 * @property {string} tag what was done to the photo
 * @property {string} title
 * @property {string} credit
 * @property {string} suffix for the file's name
 */

/**
 * @param {import('./api.js').Style} style
 * @param {Record<string, string | number | boolean>} dials
 * @param {import('./photo.js').Photo} photo
 * @param {string} format
 * @returns {Wish}
 */
export function paintingWish(style, dials, photo, format) {
  const scale = Math.min(1, (dials.size ?? Infinity) / Math.max(photo.width, photo.height));
  const isLong = !photo.image || photo.width * photo.height * scale ** 2 > QUICKLY_PAINTED_PX;
  return {
    order: { path: '/stylize', params: { style: style.name, ...dials, format }, isLong },
    digest: style.digest,
    verb: 'Painting',
    tag: 'Painted',
    title: style.title || style.name,
    credit: [tellArtist(style.artist), style.year].filter(Boolean).join(', '),
    suffix: style.name,
  };
}

/**
 * @param {import('./api.js').Upscaler} upscaler
 * @param {import('./photo.js').Photo} photo
 * @param {string} format
 * @returns {Wish}
 */
export function enlargementWish({ factor, digest }, photo, format) {
  const isLong = !photo.image || photo.width * photo.height * factor ** 2 > QUICKLY_ENLARGED_PX;
  return {
    order: { path: '/upscale', params: { factor, format }, isLong },
    digest,
    verb: 'Enlarging',
    tag: 'Enlarged',
    title: `Enlarged ×${factor}`,
    credit: photo.file.name,
    suffix: `x${factor}`,
  };
}

/**
 * @param {Wish} wish
 * @param {string} format
 * @returns {Wish} the same picture in another file format
 */
export function inFormat(wish, format) {
  return { ...wish, order: { ...wish.order, params: { ...wish.order.params, format } } };
}

/**
 * @param {Wish} wish
 * @returns {string} the same for wishes that one picture fulfils
 */
export function keyOf(wish) {
  return JSON.stringify([wish.order.path, wish.order.params, wish.digest]);
}

function tellArtist(artist) {
  if (artist.toLowerCase() === 'unknown') return 'artist unknown';
  return artist && `after ${artist}`;
}
