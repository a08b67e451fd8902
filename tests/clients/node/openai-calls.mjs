// The calls of the `openai` package, the same for each of its generations.

import {
  MAX_TOKENS,
  PIXEL_URL,
  TOOL_DESCRIPTION,
  TOOL_NAME,
  TOOL_SCHEMA,
  ToolCalls,
  fingerprint,
  pixelFile,
  readEvents,
  soundFile,
  uploadFile,
} from './asked.mjs';
import { Unsupported, keep, keepTexts, serve } from './protocol.mjs';

/** Answers with this generation of the package: its default export. */
export function serveOpenAI(OpenAI) {
  const library = { name: 'openai', owns: (error) => error instanceof OpenAI.OpenAIError };
  const withClient = (call) => (request, answer) => call(client(OpenAI, request), request, answer);
  const calls = Object.entries(CALLS).map(([name, call]) => [`openai ${name}`, withClient(call)]);
  serve(library, Object.fromEntries(calls));
}

function client(OpenAI, { base_url, api_key, options }) {
  const settings = { baseURL: `${base_url}/v1`, apiKey: api_key, defaultHeaders: options.headers ?? {} };
  // What a case leaves open is left to the library's own default.
  if (typeof options.max_retries === 'number') settings.maxRetries = options.max_retries;
  if (typeof options.timeout_s === 'number') settings.timeout = options.timeout_s * 1000;
  return new OpenAI(settings);
}

const CALLS = {
  chat: async (openai, request, answer) => readChat(await openai.chat.completions.create(chatBody(request)), answer),

  chat_stream: async (openai, request, answer) => {
    const body = { ...chatBody(request), stream: true, stream_options: { include_usage: true } };
    await readChatStream(await openai.chat.completions.create(body), request, answer);
  },

  // The helper with events, which gathers the completion itself.
  chat_helper: async (openai, request, answer) => {
    const completions = openai.chat.completions.stream ? openai.chat.completions : openai.beta?.chat.completions;
    const runner = completions?.stream({ ...chatBody(request), stream_options: { include_usage: true } });
    if (runner === undefined) throw new Unsupported();
    await readChatStream(runner, request, answer);
    if (typeof request.options.cancel_after_events !== 'number') readChat(await runner.finalChatCompletion(), answer);
  },

  completions: async (openai, request, answer) => {
    const completion = await openai.completions.create(completionBody(request));
    if (!Array.isArray(completion?.choices)) return keep(answer, completion);
    keepTexts(answer, completion.choices.map((choice) => choice.text));
    answer.usage = chatUsage(completion.usage);
    answer.finish = completion.choices[0]?.finish_reason ?? null;
  },

  completions_stream: async (openai, request, answer) => {
    const stream = await openai.completions.create({ ...completionBody(request), stream: true });
    await readEvents(stream, request, answer, (chunk) => {
      answer.text = (answer.text ?? '') + (chunk.choices?.[0]?.text ?? '');
      answer.usage = chatUsage(chunk.usage) ?? answer.usage;
    });
  },

  responses: async (openai, request, answer) =>
    readResponse(await openai.responses.create(responseBody(request)), answer),

  responses_stream: async (openai, request, answer) => {
    const stream = await openai.responses.create({ ...responseBody(request), stream: true });
    await readEvents(stream, request, answer, (event) => {
      if (event.type === 'response.output_text.delta') answer.text = (answer.text ?? '') + event.delta;
      if (event.type === 'response.completed') readResponse(event.response, answer);
      if (event.type === 'response.failed' || event.type === 'response.incomplete') {
        answer.finish = event.response?.status ?? null;
      }
    });
  },

  response_get: async (openai, request, answer) => readResponse(await openai.responses.retrieve('resp_1'), answer),
  response_delete: async (openai, request, answer) =>
    keep(answer, await (openai.responses.delete ?? openai.responses.del).call(openai.responses, 'resp_1')),
  response_cancel: async (openai, request, answer) => keep(answer, await openai.responses.cancel('resp_1')),
  response_input_items: async (openai, request, answer) =>
    keepPage(answer, await openai.responses.inputItems.list('resp_1')),

  embeddings: async (openai, request, answer) => {
    const embeddings = await openai.embeddings.create({ model: request.model, input: [request.prompt, 'again'] });
    answer.usage = { input: embeddings.usage?.prompt_tokens ?? null, output: null };
    answer.extra = { embeddings: embeddings.data?.map((each) => each.embedding) ?? null };
  },

  models: async (openai, request, answer) => keepPage(answer, await openai.models.list()),
  model: async (openai, request, answer) => keep(answer, await openai.models.retrieve(request.model)),
  moderations: async (openai, request, answer) =>
    keep(answer, await openai.moderations.create({ model: request.model, input: request.prompt })),

  images: async (openai, request, answer) =>
    keep(answer, await openai.images.generate({ model: request.model, prompt: request.prompt })),
  image_edit: async (openai, request, answer) =>
    keep(answer, await openai.images.edit({ model: request.model, image: pixelFile(), prompt: request.prompt })),

  audio_speech: async (openai, request, answer) => {
    const speech = await openai.audio.speech.create({ model: request.model, voice: 'alloy', input: request.prompt });
    answer.extra = { audio: await fingerprint(await speech.arrayBuffer()) };
  },
  transcription: async (openai, request, answer) =>
    readTranscription(await openai.audio.transcriptions.create({ model: request.model, file: soundFile() }), answer),
  translation: async (openai, request, answer) =>
    readTranscription(await openai.audio.translations.create({ model: request.model, file: soundFile() }), answer),

  upload: async (openai, request, answer) =>
    keep(answer, await openai.files.create({ file: uploadFile(), purpose: 'batch' })),
  files: async (openai, request, answer) => keepPage(answer, await openai.files.list()),
  file: async (openai, request, answer) => keep(answer, await openai.files.retrieve('file-1')),
  file_delete: async (openai, request, answer) =>
    keep(answer, await (openai.files.delete ?? openai.files.del).call(openai.files, 'file-1')),
  file_content: async (openai, request, answer) => {
    const content = await openai.files.content('file-1');
    answer.extra = { content: await fingerprint(await content.arrayBuffer()) };
  },

  batch: async (openai, request, answer) => {
    const body = { input_file_id: 'file-1', endpoint: '/v1/chat/completions', completion_window: '24h' };
    keep(answer, await openai.batches.create(body));
  },
  batches: async (openai, request, answer) => keepPage(answer, await openai.batches.list()),
  batch_get: async (openai, request, answer) => keep(answer, await openai.batches.retrieve('batch_1')),
  batch_cancel: async (openai, request, answer) => keep(answer, await openai.batches.cancel('batch_1')),

  vector_stores: async (openai, request, answer) => keepPage(answer, await openai.vectorStores.list()),
  fine_tuning: async (openai, request, answer) =>
    keep(answer, await openai.fineTuning.jobs.create({ model: request.model, training_file: 'file-1' })),
  conversations: async (openai, request, answer) => {
    if (openai.conversations === undefined) throw new Unsupported();
    keep(answer, await openai.conversations.create({ metadata: { topic: 'test' } }));
  },
};

function chatBody({ model, prompt, options }) {
  const content = options.image
    ? [{ type: 'text', text: prompt }, { type: 'image_url', image_url: { url: PIXEL_URL } }]
    : prompt;
  const body = { model, messages: [{ role: 'user', content }] };
  if (options.n) body.n = options.n;
  if (options.tools) {
    const tool = { name: TOOL_NAME, description: TOOL_DESCRIPTION, parameters: TOOL_SCHEMA };
    body.tools = [{ type: 'function', function: tool }];
  }
  return body;
}

function completionBody({ model, prompt, options }) {
  const body = { model, prompt, max_tokens: MAX_TOKENS };
  if (options.n) body.n = options.n;
  return body;
}

function responseBody({ model, prompt, options }) {
  const content = [{ type: 'input_text', text: prompt }, { type: 'input_image', image_url: PIXEL_URL, detail: 'auto' }];
  const body = { model, input: options.image ? [{ role: 'user', content }] : prompt };
  if (options.tools) {
    const tool = { name: TOOL_NAME, description: TOOL_DESCRIPTION, parameters: TOOL_SCHEMA, strict: true };
    body.tools = [{ type: 'function', ...tool }];
  }
  return body;
}

function readChat(completion, answer) {
  // What is no completion (a page of a proxy, a JSON of another kind) reaches an application as it is.
  if (!Array.isArray(completion?.choices)) return keep(answer, completion);
  keepTexts(answer, completion.choices.map((choice) => choice.message?.content ?? null));
  answer.usage = chatUsage(completion.usage);
  answer.finish = completion.choices[0]?.finish_reason ?? null;
  const calls = completion.choices.flatMap((choice) => choice.message?.tool_calls ?? []);
  answer.tool_calls = calls.length === 0 ? null : calls.map((call) => pick(call.function));
}

async function readChatStream(stream, request, answer) {
  const texts = [];
  const calls = new ToolCalls();
  await readEvents(stream, request, answer, (chunk) => {
    answer.usage = chatUsage(chunk.usage) ?? answer.usage;
    for (const choice of chunk.choices ?? []) {
      if (choice.delta?.content) texts[choice.index] = (texts[choice.index] ?? '') + choice.delta.content;
      for (const call of choice.delta?.tool_calls ?? []) {
        calls.add(`${choice.index} ${call.index}`, call.function?.name, call.function?.arguments);
      }
      answer.finish = choice.finish_reason ?? answer.finish;
    }
    keepTexts(answer, texts);
    answer.tool_calls = calls.all();
  });
}

function readResponse(response, answer) {
  if (!Array.isArray(response?.output)) return keep(answer, response);
  const parts = response.output.filter((item) => item.type === 'message').flatMap((item) => item.content);
  answer.text = parts.map((part) => part.text ?? '').join('') || null;
  answer.usage = { input: response.usage?.input_tokens ?? null, output: response.usage?.output_tokens ?? null };
  answer.finish = response.status ?? null;
  const calls = response.output.filter((item) => item.type === 'function_call');
  answer.tool_calls = calls.length === 0 ? null : calls.map(pick);
}

function readTranscription(transcription, answer) {
  if (typeof transcription?.text !== 'string') return keep(answer, transcription);
  answer.text = transcription.text;
}

const pick = (call) => ({ name: call.name, arguments: call.arguments });

function chatUsage(usage) {
  return usage ? { input: usage.prompt_tokens ?? null, output: usage.completion_tokens ?? null } : null;
}

function keepPage(answer, page) {
  keep(answer, page?.data ?? page?.body ?? null);
}
