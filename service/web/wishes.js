/**
 * What the visitor wants of the photo, and how to speak of it.
 * @typedef {object} Wish
 * @property {import('./api.js').Order} order
 * @property {string} verb what the service is doing meanwhile
 * @property {string} tag what was done to the photo
 * @property {string} title
 * @property {string} credit
 * @property {string} suffix for the file's name
 */

/**
 * @param {import('./api.js').Style} style
 * @param {Record<string, string | number | boolean>} dials
 * @param {string} format
 * @returns {Wish}
 */
export function paintingWish(style, dials, format) {
  return {
    order: { path: '/stylize', params: { style: style.name, ...dials, format } },
    verb: 'Painting',
    tag: 'Painted',
    title: style.title || style.name,
    credit: [tellArtist(style.artist), style.year].filter(Boolean).join(', '),
    suffix: style.name,
  };
}

/**
 * @param {number} factor
 * @param {string} fileName
 * @param {string} format
 * @returns {Wish}
 */
export function enlargementWish(factor, fileName, format) {
  return {
    order: { path: '/upscale', params: { factor, format } },
    verb: 'Enlarging',
    tag: 'Enlarged',
    title: `Enlarged ×${factor}`,
    credit: fileName,
    suffix: `x${factor}`,
  };
}

/**
 * @param {Wish} wish
 * @returns {string} the same for wishes that one picture fulfils
 */
export function keyOf(wish) {
  return JSON.stringify(wish.order);
}

function tellArtist(artist) {
  if (artist.toLowerCase() === 'unknown') return 'artist unknown';
  return artist && `after ${artist}`;
}
