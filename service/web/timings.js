const NAMES = { queue: 'queue', decode: 'decode', infer: 'network', encode: 'encode' };

/**
 * @param {string} header `Server-Timing`
 * @returns {string} such as "queue 2 ms, network 208 ms"
 */
export function tellStages(header) {
  const stages = [...header.matchAll(/(\w+)[^,]*?;\s*dur=([\d.]+)/g)];
  return stages
    .filter(([, name]) => name in NAMES)
    .map(([, name, duration]) => `${NAMES[name]} ${Math.round(Number(duration))} ms`)
    .join(', ');
}

/** @param {number} seconds */
export function tellSeconds(seconds) {
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}
