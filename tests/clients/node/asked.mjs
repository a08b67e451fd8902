// What the clients ask for, the same in every library: a tool, an image, a file, a sound.

/** A red pixel: what is sent where a case has an image. */
export const PIXEL_BASE64 =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
export const PIXEL_URL = `data:image/png;base64,${PIXEL_BASE64}`;

/** The one tool that is offered where a case has tools. */
export const TOOL_NAME = 'get_weather';
export const TOOL_DESCRIPTION = 'The weather in a city.';
export const TOOL_SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};

/** Lines for a batch or for fine-tuning: what is uploaded where a case has a file. */
export const UPLOAD_NAME = 'requests.jsonl';
export const UPLOAD_TEXT = '{"custom_id":"first"}\n{"custom_id":"second"}\n';

/** The head of a sound file with no sound in it. */
export const SOUND_NAME = 'sound.wav';
export const SOUND_BYTES = Buffer.from('UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=', 'base64');

/** Enough for every answer of the mock. */
export const MAX_TOKENS = 256;

/** The `File` that libraries want, made anew for each call because some read it only once. */
export const uploadFile = () => new File([UPLOAD_TEXT], UPLOAD_NAME, { type: 'application/jsonl' });
export const soundFile = () => new File([SOUND_BYTES], SOUND_NAME, { type: 'audio/wav' });
export const pixelFile = () =>
  new File([Buffer.from(PIXEL_BASE64, 'base64')], 'pixel.png', { type: 'image/png' });

/** A short string that differs if one byte of the data does. */
export async function fingerprint(bytes) {
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return `${bytes.byteLength} bytes, ${Buffer.from(digest).toString('hex').slice(0, 16)}`;
}

/**
 * Reads a stream event by event, counts them in the answer, and leaves it after so many as the case says.
 */
export async function readEvents(stream, request, answer, read) {
  const enough = request.options.cancel_after_events;
  answer.events = 0;
  for await (const event of stream) {
    answer.events += 1;
    read(event);
    if (enough !== null && enough !== undefined && answer.events >= enough) break;
  }
}

/** Collects the pieces of tool calls that a stream sends one after the other, by their place. */
export class ToolCalls {
  #calls = new Map();

  add(place, name, piece) {
    const call = this.#calls.get(place) ?? { name: '', arguments: '' };
    call.name += name ?? '';
    call.arguments += piece ?? '';
    this.#calls.set(place, call);
  }

  /** `null` where there was none, as in an answer without tools. */
  all() {
    return this.#calls.size === 0 ? null : [...this.#calls.values()];
  }
}
