// The calls of the `@google/genai` package, the same for each of its generations.

import {
  MAX_TOKENS,
  PIXEL_BASE64,
  TOOL_DESCRIPTION,
  TOOL_NAME,
  TOOL_SCHEMA,
  UPLOAD_NAME,
  readEvents,
  uploadFile,
} from './asked.mjs';
import { keep as keepWhole, keepTexts, serve } from './protocol.mjs';

/** Answers with this generation of the package. */
export function serveGoogle({ GoogleGenAI, ApiError }) {
  const library = { name: 'google.genai', owns: (error) => error instanceof ApiError, details };
  const withClient = (call) => (request, answer) => call(client(GoogleGenAI, request), request, answer);
  const calls = Object.entries(CALLS).map(([name, call]) => [`gemini ${name}`, withClient(call)]);
  serve(library, Object.fromEntries(calls));
}

function client(GoogleGenAI, { base_url, api_key, options }) {
  const httpOptions = { baseUrl: base_url, headers: options.headers ?? {} };
  if (typeof options.timeout_s === 'number') httpOptions.timeout = options.timeout_s * 1000;
  // Without this option the library repeats nothing.
  if (typeof options.max_retries === 'number') httpOptions.retryOptions = { attempts: options.max_retries + 1 };
  return new GoogleGenAI({ apiKey: api_key, httpOptions });
}

/** The message of an error is the body, as text; the envelope in it is what an application can branch on. */
function details(error) {
  try {
    const inner = JSON.parse(error.message).error;
    return { code: inner?.code, type: inner?.status };
  } catch {
    return {};
  }
}

const CALLS = {
  generate: async (google, request, answer) =>
    readGenerated(await google.models.generateContent(body(request)), answer),

  generate_stream: async (google, request, answer) => {
    const texts = [];
    const calls = [];
    await readEvents(await google.models.generateContentStream(body(request)), request, answer, (chunk) => {
      for (const [place, candidate] of (chunk.candidates ?? []).entries()) {
        const text = textOf(candidate);
        if (text !== null) texts[candidate.index ?? place] = (texts[candidate.index ?? place] ?? '') + text;
        calls.push(...callsOf(candidate));
        answer.finish = candidate.finishReason ?? answer.finish;
      }
      keepTexts(answer, texts);
      answer.tool_calls = calls.length === 0 ? null : [...calls];
      answer.usage = usage(chunk.usageMetadata) ?? answer.usage;
    });
  },

  count_tokens: async (google, request, answer) => {
    const count = await google.models.countTokens({ model: request.model, contents: request.prompt });
    answer.usage = { input: count?.totalTokens ?? null, output: null };
  },

  embeddings: async (google, request, answer) => {
    const embedded = await google.models.embedContent({ model: request.model, contents: [request.prompt, 'again'] });
    answer.extra = { embeddings: embedded?.embeddings?.map((each) => each.values) ?? null };
  },

  images: async (google, request, answer) =>
    keep(answer, await google.models.generateImages({ model: request.model, prompt: request.prompt })),

  models: async (google, request, answer) => keepPage(answer, await google.models.list()),
  model: async (google, request, answer) => keep(answer, await google.models.get({ model: request.model })),

  upload: async (google, request, answer) => {
    const config = { mimeType: 'text/plain', displayName: UPLOAD_NAME };
    keep(answer, await google.files.upload({ file: uploadFile(), config }));
  },
  files: async (google, request, answer) => keepPage(answer, await google.files.list()),
  file: async (google, request, answer) => keep(answer, await google.files.get({ name: 'files/one' })),
  file_delete: async (google, request, answer) => keep(answer, await google.files.delete({ name: 'files/one' })),

  batch: async (google, request, answer) => {
    const src = [{ contents: [{ role: 'user', parts: [{ text: request.prompt }] }] }];
    keep(answer, await google.batches.create({ model: request.model, src }));
  },
  batches: async (google, request, answer) => keepPage(answer, await google.batches.list()),
  batch_get: async (google, request, answer) => keep(answer, await google.batches.get({ name: 'batches/one' })),
  batch_cancel: async (google, request, answer) => keep(answer, await google.batches.cancel({ name: 'batches/one' })),

  caches: async (google, request, answer) => {
    const config = { contents: [{ role: 'user', parts: [{ text: request.prompt }] }], ttl: '60s' };
    keep(answer, await google.caches.create({ model: request.model, config }));
  },
};

function body({ model, prompt, options }) {
  const image = { inlineData: { mimeType: 'image/png', data: PIXEL_BASE64 } };
  const parts = options.image ? [image, { text: prompt }] : [{ text: prompt }];
  const config = { maxOutputTokens: MAX_TOKENS };
  if (options.n) config.candidateCount = options.n;
  if (options.tools) {
    const tool = { name: TOOL_NAME, description: TOOL_DESCRIPTION, parametersJsonSchema: TOOL_SCHEMA };
    config.tools = [{ functionDeclarations: [tool] }];
  }
  return { model, contents: [{ role: 'user', parts }], config };
}

function readGenerated(generated, answer) {
  // What is no answer to this call (a JSON of another kind) reaches an application as an object without candidates.
  if (!Array.isArray(generated?.candidates)) {
    return keep(answer, generated);
  }
  keepTexts(answer, generated.candidates.map(textOf));
  answer.finish = generated.candidates[0]?.finishReason ?? null;
  answer.usage = usage(generated.usageMetadata);
  const calls = generated.candidates.flatMap(callsOf);
  answer.tool_calls = calls.length === 0 ? null : calls;
}

function textOf(candidate) {
  const texts = (candidate.content?.parts ?? []).filter((part) => typeof part.text === 'string');
  return texts.length === 0 ? null : texts.map((part) => part.text).join('');
}

function callsOf(candidate) {
  const calls = (candidate.content?.parts ?? []).filter((part) => part.functionCall !== undefined);
  const call = ({ functionCall }) => ({ name: functionCall.name, arguments: functionCall.args ?? {} });
  return calls.map(call);
}

function usage(told) {
  return told ? { input: told.promptTokenCount ?? null, output: told.candidatesTokenCount ?? null } : null;
}

/** An answer that is compared as it is, without the headers that the library puts beside it. */
function keep(answer, value) {
  const { sdkHttpResponse: _, ...rest } = value ?? {};
  keepWhole(answer, rest);
}

function keepPage(answer, page) {
  answer.extra = { ...answer.extra, answer: page?.page ?? null };
}
