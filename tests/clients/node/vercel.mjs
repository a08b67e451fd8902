// Vercel's `ai` with its providers for OpenAI, Anthropic and Gemini.

import './protocol.mjs';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import {
  AISDKError,
  RetryError,
  embedMany,
  generateImage,
  generateObject,
  generateSpeech,
  generateText,
  jsonSchema,
  streamText,
  tool,
  transcribe,
  uploadFile,
} from 'ai';

import {
  MAX_TOKENS,
  PIXEL_BASE64,
  SOUND_BYTES,
  TOOL_DESCRIPTION,
  TOOL_NAME,
  TOOL_SCHEMA,
  ToolCalls,
  UPLOAD_NAME,
  UPLOAD_TEXT,
  fingerprint,
  readEvents,
} from './asked.mjs';
import { Unsupported, describeError, serve } from './protocol.mjs';

const library = { name: 'ai', owns: (error) => AISDKError.isInstance(error), details };

/** What is asked for the structured answer of `generateObject`. */
const OBJECT_SCHEMA = jsonSchema(TOOL_SCHEMA);

serve(library, {
  'openai chat': (request, answer) => generate(openai(request).chat(request.model), request, answer),
  'openai chat_stream': (request, answer) => stream(openai(request).chat(request.model), request, answer),
  'openai structured': (request, answer) => object(openai(request).chat(request.model), request, answer),
  'openai completions': (request, answer) => generate(openai(request).completion(request.model), request, answer),
  'openai completions_stream': (request, answer) => stream(openai(request).completion(request.model), request, answer),
  'openai responses': (request, answer) => generate(openai(request).responses(request.model), request, answer),
  'openai responses_stream': (request, answer) => stream(openai(request).responses(request.model), request, answer),
  'openai embeddings': (request, answer) => embed(openai(request).embedding(request.model), request, answer),
  'openai images': (request, answer) => image(openai(request).image(request.model), request, answer),
  'openai audio_speech': (request, answer) => speak(openai(request).speech(request.model), request, answer),
  'openai transcription': (request, answer) => hear(openai(request).transcription(request.model), request, answer),
  'openai upload': (request, answer) => upload(openai(request).files(), answer),
  'anthropic messages': (request, answer) => generate(anthropic(request)(request.model), request, answer),
  'anthropic messages_stream': (request, answer) => stream(anthropic(request)(request.model), request, answer),
  'anthropic structured': (request, answer) => object(anthropic(request)(request.model), request, answer),
  'anthropic upload': (request, answer) => upload(anthropic(request).files(), answer),
  'gemini generate': (request, answer) => generate(google(request)(request.model), request, answer),
  'gemini generate_stream': (request, answer) => stream(google(request)(request.model), request, answer),
  'gemini structured': (request, answer) => object(google(request)(request.model), request, answer),
  'gemini embeddings': (request, answer) => embed(google(request).embedding(request.model), request, answer),
  'gemini images': (request, answer) => image(google(request).image(request.model), request, answer),
  'gemini upload': (request, answer) => upload(google(request).files(), answer),
});

function provider(create, request, version) {
  const { base_url, api_key, options } = request;
  return create({ baseURL: `${base_url}${version}`, apiKey: api_key, headers: options.headers ?? {} });
}
const openai = (request) => provider(createOpenAI, request, '/v1');
const anthropic = (request) => provider(createAnthropic, request, '/v1');
const google = (request) => provider(createGoogleGenerativeAI, request, '/v1beta');

/** An error that was met again after retries stands within the error of the retries. */
function details(error) {
  const last = RetryError.isInstance(error) ? error.lastError : error;
  const inner = last?.data?.error;
  return { status: last?.statusCode, code: inner?.code, type: inner?.type ?? inner?.status };
}

/** What all calls have in common. What a case leaves open is left to the library's own default. */
function settings({ options }) {
  const common = {};
  if (typeof options.max_retries === 'number') common.maxRetries = options.max_retries;
  if (typeof options.timeout_s === 'number') common.abortSignal = AbortSignal.timeout(options.timeout_s * 1000);
  return common;
}

function question(model, request) {
  const { prompt, options } = request;
  // This library asks for one answer at a time.
  if (options.n) throw new Unsupported();
  const image = { type: 'file', data: Buffer.from(PIXEL_BASE64, 'base64'), mediaType: 'image/png' };
  const content = options.image ? [{ type: 'text', text: prompt }, image] : prompt;
  const messages = [{ role: 'user', content }];
  const asked = { model, messages, maxOutputTokens: MAX_TOKENS, ...settings(request) };
  if (options.tools) {
    const weather = tool({ description: TOOL_DESCRIPTION, inputSchema: jsonSchema(TOOL_SCHEMA) });
    asked.tools = { [TOOL_NAME]: weather };
  }
  return asked;
}

async function generate(model, request, answer) {
  const generated = await generateText(question(model, request));
  answer.text = generated.text === '' ? null : generated.text;
  answer.usage = usage(generated.usage);
  answer.finish = generated.finishReason;
  const calls = generated.toolCalls.map((call) => ({ name: call.toolName, arguments: call.input }));
  answer.tool_calls = calls.length === 0 ? null : calls;
}

/** A stream of this library never throws: what went wrong is a part of it. */
async function stream(model, request, answer) {
  const calls = new ToolCalls();
  const streamed = streamText({ ...question(model, request), onError: () => {} });
  await readEvents(streamed.stream, request, answer, (part) => {
    if (part.type === 'text-delta') answer.text = (answer.text ?? '') + part.text;
    if (part.type === 'tool-call') calls.add(part.toolCallId, part.toolName, JSON.stringify(part.input));
    if (part.type === 'error') answer.error ??= describeError(library, part.error);
    if (part.type === 'abort') answer.finish = 'abort';
    if (part.type === 'finish') {
      answer.finish = part.finishReason;
      answer.usage = usage(part.totalUsage);
    }
    answer.tool_calls = calls.all();
  });
}

async function object(model, request, answer) {
  const { messages, ...asked } = question(model, request);
  const generated = await generateObject({ ...asked, messages, schema: OBJECT_SCHEMA });
  answer.extra = { answer: generated.object };
  answer.usage = usage(generated.usage);
  answer.finish = generated.finishReason;
}

async function embed(model, request, answer) {
  const embedded = await embedMany({ model, values: [request.prompt, 'again'], ...settings(request) });
  answer.usage = { input: embedded.usage?.tokens ?? null, output: null };
  answer.extra = { embeddings: embedded.embeddings };
}

async function image(model, request, answer) {
  const made = await generateImage({ model, prompt: request.prompt, ...settings(request) });
  answer.extra = { images: await Promise.all(made.images.map((each) => fingerprint(each.uint8Array))) };
}

async function speak(model, request, answer) {
  const speech = await generateSpeech({ model, text: request.prompt, voice: 'alloy', ...settings(request) });
  answer.extra = { audio: await fingerprint(speech.audio.uint8Array) };
}

async function hear(model, request, answer) {
  const heard = await transcribe({ model, audio: SOUND_BYTES, ...settings(request) });
  answer.text = heard.text;
}

async function upload(api, answer) {
  const data = new TextEncoder().encode(UPLOAD_TEXT);
  const uploaded = await uploadFile({ api, data, mediaType: 'text/plain', filename: UPLOAD_NAME });
  const { providerReference, mediaType, filename } = uploaded;
  answer.extra = { answer: { providerReference, mediaType, filename } };
}

function usage(told) {
  return told ? { input: told.inputTokens ?? null, output: told.outputTokens ?? null } : null;
}
