// The calls of the `@anthropic-ai/sdk` package, the same for each of its generations.

import {
  MAX_TOKENS,
  PIXEL_BASE64,
  TOOL_DESCRIPTION,
  TOOL_NAME,
  TOOL_SCHEMA,
  ToolCalls,
  fingerprint,
  readEvents,
  uploadFile,
} from './asked.mjs';
import { Unsupported, keep, serve } from './protocol.mjs';

/** Answers with this generation of the package: its default export. */
export function serveAnthropic(Anthropic) {
  const library = { name: 'anthropic', owns: (error) => error instanceof Anthropic.AnthropicError, details };
  const withClient = (call) => (request, answer) => call(client(Anthropic, request), request, answer);
  const calls = Object.entries(CALLS).map(([name, call]) => [`anthropic ${name}`, withClient(call)]);
  serve(library, Object.fromEntries(calls));
}

function client(Anthropic, { base_url, api_key, options }) {
  const settings = { baseURL: base_url, apiKey: api_key, defaultHeaders: options.headers ?? {} };
  // What a case leaves open is left to the library's own default.
  if (typeof options.max_retries === 'number') settings.maxRetries = options.max_retries;
  if (typeof options.timeout_s === 'number') settings.timeout = options.timeout_s * 1000;
  return new Anthropic(settings);
}

/** The parsed body of an error is in `error`; older generations give its type nowhere else. */
function details(error) {
  const inner = error.error?.error ?? {};
  return { code: inner.details?.error_code, type: error.type ?? inner.type };
}

const CALLS = {
  messages: async (anthropic, request, answer) => readMessage(await anthropic.messages.create(body(request)), answer),

  messages_stream: async (anthropic, request, answer) => {
    const stream = await anthropic.messages.create({ ...body(request), stream: true });
    await readMessageStream(stream, request, answer);
  },

  // The helper with events, which gathers the message itself.
  messages_helper: async (anthropic, request, answer) => {
    const stream = anthropic.messages.stream(body(request));
    await readMessageStream(stream, request, answer);
    if (typeof request.options.cancel_after_events !== 'number') readMessage(await stream.finalMessage(), answer);
  },

  completions: async (anthropic, request, answer) => {
    if (anthropic.completions === undefined) throw new Unsupported();
    const prompt = `\n\nHuman: ${request.prompt}\n\nAssistant:`;
    const asked = { model: request.model, prompt, max_tokens_to_sample: MAX_TOKENS };
    keep(answer, await anthropic.completions.create(asked));
  },

  count_tokens: async (anthropic, request, answer) => {
    const { max_tokens: _, ...counted } = body(request);
    const count = await anthropic.messages.countTokens(counted);
    answer.usage = { input: count?.input_tokens ?? null, output: null };
  },

  models: async (anthropic, request, answer) => keepPage(answer, await anthropic.models.list()),
  model: async (anthropic, request, answer) => keep(answer, await anthropic.models.retrieve(request.model)),

  upload: async (anthropic, request, answer) => keep(answer, await files(anthropic).upload({ file: uploadFile() })),
  files: async (anthropic, request, answer) => keepPage(answer, await files(anthropic).list()),
  file: async (anthropic, request, answer) => keep(answer, await files(anthropic).retrieveMetadata('file_1')),
  file_delete: async (anthropic, request, answer) => keep(answer, await files(anthropic).delete('file_1')),
  file_content: async (anthropic, request, answer) => {
    const content = await files(anthropic).download('file_1');
    answer.extra = { content: await fingerprint(await content.arrayBuffer()) };
  },

  batch: async (anthropic, request, answer) => {
    const requests = [{ custom_id: 'first', params: body(request) }];
    keep(answer, await anthropic.messages.batches.create({ requests }));
  },
  batches: async (anthropic, request, answer) => keepPage(answer, await anthropic.messages.batches.list()),
  batch_get: async (anthropic, request, answer) => keep(answer, await anthropic.messages.batches.retrieve('batch_1')),
  batch_cancel: async (anthropic, request, answer) => keep(answer, await anthropic.messages.batches.cancel('batch_1')),
  // Looks the batch up first, and reads its results, line by line, from the address that stands there.
  batch_results: async (anthropic, request, answer) => {
    const lines = [];
    const results = await anthropic.messages.batches.results('batch_1');
    await readEvents(results, request, answer, (line) => lines.push(line));
    keep(answer, lines);
  },
};

function files(anthropic) {
  const resource = anthropic.files ?? anthropic.beta?.files;
  if (resource === undefined) throw new Unsupported();
  return resource;
}

function body({ model, prompt, options }) {
  // This API gives one answer at a time.
  if (options.n) throw new Unsupported();
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL_BASE64 } };
  const content = options.image ? [image, { type: 'text', text: prompt }] : prompt;
  const asked = { model, max_tokens: MAX_TOKENS, messages: [{ role: 'user', content }] };
  if (options.tools) {
    asked.tools = [{ name: TOOL_NAME, description: TOOL_DESCRIPTION, input_schema: TOOL_SCHEMA }];
  }
  return asked;
}

function readMessage(message, answer) {
  // What is no message (a page of a proxy, a JSON of another kind) reaches an application as it is.
  if (!Array.isArray(message?.content)) return keep(answer, message);
  const texts = message.content.filter((block) => block.type === 'text').map((block) => block.text);
  answer.text = texts.length === 0 ? null : texts.join('');
  answer.usage = usage(message.usage);
  answer.finish = message.stop_reason ?? null;
  const calls = message.content.filter((block) => block.type === 'tool_use');
  const call = (block) => ({ name: block.name, arguments: block.input });
  answer.tool_calls = calls.length === 0 ? null : calls.map(call);
}

async function readMessageStream(stream, request, answer) {
  const calls = new ToolCalls();
  await readEvents(stream, request, answer, (event) => {
    const { type, index, delta } = event;
    if (type === 'message_start') answer.usage = usage(event.message?.usage);
    if (type === 'content_block_start' && event.content_block?.type === 'tool_use') {
      calls.add(index, event.content_block.name, '');
    }
    if (type === 'content_block_delta' && delta?.type === 'text_delta') answer.text = (answer.text ?? '') + delta.text;
    if (type === 'content_block_delta' && delta?.type === 'input_json_delta') {
      calls.add(index, '', delta.partial_json);
    }
    if (type === 'message_delta') {
      answer.finish = delta?.stop_reason ?? answer.finish;
      answer.usage = { ...answer.usage, output: event.usage?.output_tokens ?? answer.usage?.output ?? null };
    }
    answer.tool_calls = calls.all();
  });
}

function usage(told) {
  return told ? { input: told.input_tokens ?? null, output: told.output_tokens ?? null } : null;
}

function keepPage(answer, page) {
  keep(answer, page?.data ?? page?.body ?? null);
}
