const TYPE_PREFIX = 'urn:impasto:problem:';

/** For kinds of problems whose own words are for those who write requests. */
const SENTENCES = {
  unauthorized: 'The studio asks for a key that it knows. Try again to enter one.',
  'unknown-style': 'This style is no longer here. Choose another.',
  'unknown-factor': 'This enlargement is no longer here. Choose another.',
  'empty-body': 'The file is empty. Choose another.',
  'deadline-passed': 'The studio did not get this picture ready in time. Try again later, or a smaller photo.',
  'unknown-job': 'The studio no longer has this picture. Try again.',
  'job-canceled': 'This picture was called off. Try again.',
};

/** What such words say within a sentence that is of use, and what it is called on the page. */
const TURNS = [
  [/\buse factor=(\d+)/, 'choose ×$1'],
  [/\bask for format=png/, 'choose PNG'],
  [/^size=(\d+)/, 'A longest side of $1 px'],
];

/** For answers of a proxy in words of its own. */
const BARE = {
  413: 'The file is larger than the studio takes. Try a smaller one.',
  502: 'The studio does not answer just now. Try again in a moment.',
  503: 'The studio does not answer just now. Try again in a moment.',
  504: 'The studio did not answer in time. Try again later, or a smaller photo.',
};

/** No answer at all, a key to enter, and what passes by itself. */
const PASSING = [0, 401, 408, 429];

/** Nothing is wrong with the order, only its picture is gone. */
const GONE = ['unknown-job', 'job-canceled'];

/** A refusal, with a sentence to show. */
export class ApiError extends Error {
  /**
   * @param {string} sentence
   * @param {number} status of the answer; 0 where none came from the service
   * @param {string} type the kind of problem, without the prefix that all have; '' if it has no name
   * @param {number} retryAfter seconds after which the service wants to be asked again; 0 if it does not
   */
  constructor(sentence, status = 0, type = '', retryAfter = 0) {
    super(sentence);
    this.status = status;
    this.type = type;
    this.retryAfter = retryAfter;
  }

  /** Whether the same order may well be answered another time. */
  get canRetry() {
    return PASSING.includes(this.status) || this.status >= 500 || GONE.includes(this.type);
  }
}

/**
 * @param {Response} response that is not ok
 * @returns {Promise<ApiError>}
 */
export async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const isBusy = response.status === 503 || response.status === 429;
  return errorOf(problem ?? {}, response.status, isBusy ? retryAfter(response) : 0);
}

/**
 * @param {{type?: string, status?: number, detail?: string}} problem as in RFC 9457
 * @param {number} status
 * @param {number} [retryAfter]
 */
export function errorOf(problem, status, retryAfter = 0) {
  const type = String(problem.type ?? '').replace(TYPE_PREFIX, '');
  return new ApiError(sentenceOf(type, problem.detail, status), status, type, retryAfter);
}

function sentenceOf(type, detail, status) {
  if (type in SENTENCES) return SENTENCES[type];
  if (typeof detail !== 'string') return BARE[status] ?? `The service answered ${status}.`;
  return TURNS.reduce((sentence, [theirs, ours]) => sentence.replace(theirs, ours), detail);
}

function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After'));
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}
