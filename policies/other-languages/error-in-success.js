// Takes a 200 whose body is an error for what it is, as policies/error-in-success does in Rust.
let throttleCodes = [];

export const description = {
  describe: () => ({
    name: 'error-in-success',
    version: '0.1.0',
    summary: 'Takes a 200 whose body is an error for what it is',
    hooks: { classify: true },
  }),
  configure(settings) {
    throttleCodes = JSON.parse(settings || '{}').throttle_codes ?? [];
  },
};

export const classifier = {
  classify(attempt) {
    // What a stream says, the built-in policy knows better.
    if (attempt.streaming() || Math.floor(attempt.status() / 100) !== 2 || attempt.fault() !== undefined) return undefined;
    const error = attempt.providerError();
    if (error === undefined) return undefined;
    const throttled = throttleCodes.includes(error.code) || throttleCodes.includes(error.kind);
    return {
      class: throttled ? 'throttled' : 'failure',
      // Of a rate limit: this model under this credential. Of a failure: this model for everybody.
      scope: 'model',
      advice: 'retry',
      coolOffMs: throttled ? attempt.retryAfterMs() : undefined,
      reason: throttled ? '200 with a rate limit' : '200 with an error',
    };
  },
};

export const retrying = { backoff: () => undefined };
export const tripping = { trip: () => undefined };
