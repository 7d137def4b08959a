/**
 * @param {number} seconds
 * @param {AbortSignal} signal ends it early, with its reason as the error
 * @returns {Promise<void>}
 */
export async function pause(seconds, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const end = () => {
      signal.removeEventListener('abort', stop);
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener('abort', stop, { once: true });
  });
}
