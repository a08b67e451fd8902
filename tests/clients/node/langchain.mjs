// LangChain's chat models and embeddings for OpenAI, Anthropic and Gemini.

import './protocol.mjs';
import { ChatAnthropic } from '@langchain/anthropic';
import { ChatGoogleGenerativeAI, GoogleGenerativeAIEmbeddings } from '@langchain/google-genai';
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from '@langchain/openai';

import {
  MAX_TOKENS,
  PIXEL_BASE64,
  PIXEL_URL,
  TOOL_DESCRIPTION,
  TOOL_NAME,
  TOOL_SCHEMA,
  readEvents,
} from './asked.mjs';
import { Unsupported, keepTexts, serve } from './protocol.mjs';

// Most errors are those of the providers' packages below it, of whichever version it brings: their names tell them.
const library = { name: 'langchain', owns: (error) => error.lc_error_code !== undefined, details };

// Its pauses are random by a factor of two, and could not be compared.
Math.random = () => 0.5;

serve(library, {
  'openai chat': (request, answer) => invoke(openai(request), request, answer),
  'openai chat_stream': (request, answer) => stream(openai(request), request, answer),
  'openai responses': (request, answer) => invoke(openai(request, { useResponsesApi: true }), request, answer),
  'openai responses_stream': (request, answer) => stream(openai(request, { useResponsesApi: true }), request, answer),
  'openai completions': (request, answer) => complete(request, answer),
  'openai embeddings': (request, answer) => embed(new OpenAIEmbeddings(openaiSettings(request)), request, answer),
  'anthropic messages': (request, answer) => invoke(anthropic(request), request, answer),
  'anthropic messages_stream': (request, answer) => stream(anthropic(request), request, answer),
  'gemini generate': (request, answer) => invoke(google(request), request, answer),
  'gemini generate_stream': (request, answer) => stream(google(request), request, answer),
  'gemini embeddings': (request, answer) => embed(googleEmbeddings(request), request, answer),
});

function details(error) {
  const inner = error.error?.error ?? error.error ?? {};
  return { code: error.code ?? inner.code ?? error.lc_error_code, type: error.type ?? inner.type };
}

/** What a case leaves open is left to the library's own default. */
function common({ model, options }) {
  return typeof options.max_retries === 'number' ? { model, maxRetries: options.max_retries } : { model };
}

function openaiSettings(request) {
  const { base_url, api_key, options } = request;
  const settings = { ...common(request), apiKey: api_key };
  if (typeof options.timeout_s === 'number') settings.timeout = options.timeout_s * 1000;
  settings.configuration = { baseURL: `${base_url}/v1`, defaultHeaders: options.headers ?? {} };
  return settings;
}

function openai(request, more = {}) {
  const settings = { ...openaiSettings(request), maxTokens: MAX_TOKENS, ...more };
  if (request.options.n) settings.n = request.options.n;
  return new ChatOpenAI(settings);
}

function anthropic(request) {
  const { base_url, api_key, options } = request;
  const clientOptions = { defaultHeaders: options.headers ?? {} };
  if (typeof options.timeout_s === 'number') clientOptions.timeout = options.timeout_s * 1000;
  const address = { anthropicApiUrl: base_url, apiKey: api_key };
  return new ChatAnthropic({ ...common(request), ...address, maxTokens: MAX_TOKENS, clientOptions });
}

function google(request) {
  const { base_url, api_key, options } = request;
  const settings = { ...common(request), apiKey: api_key, baseUrl: base_url, maxOutputTokens: MAX_TOKENS };
  settings.customHeaders = options.headers ?? {};
  return new ChatGoogleGenerativeAI(settings);
}

function googleEmbeddings(request) {
  return new GoogleGenerativeAIEmbeddings({ ...common(request), apiKey: request.api_key, baseUrl: request.base_url });
}

function question(model, request) {
  const { prompt, options, dialect } = request;
  // The library refuses images for models whose name it does not know, before it calls anybody.
  if (options.image && dialect === 'gemini') throw new Unsupported();
  // In its own form for each provider, as LangChain's documentation shows it.
  const image =
    dialect === 'anthropic'
      ? { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL_BASE64 } }
      : { type: 'image_url', image_url: { url: PIXEL_URL } };
  const content = options.image ? [{ type: 'text', text: prompt }, image] : prompt;
  const tool = { name: TOOL_NAME, description: TOOL_DESCRIPTION, schema: TOOL_SCHEMA };
  return { bound: options.tools ? model.bindTools([tool]) : model, messages: [{ role: 'user', content }] };
}

/** How long a call may take, for the providers whose library has no such setting of its own. */
function callOptions({ options, dialect }) {
  return dialect === 'gemini' && typeof options.timeout_s === 'number' ? { timeout: options.timeout_s * 1000 } : {};
}

async function invoke(model, request, answer) {
  const { bound, messages } = question(model, request);
  if (request.options.n) {
    const { generations } = await model.generate([messages], callOptions(request));
    keepTexts(answer, generations[0].map((each) => each.text));
    return;
  }
  readMessage(await bound.invoke(messages, callOptions(request)), answer);
}

async function stream(model, request, answer) {
  const { bound, messages } = question(model, request);
  let whole;
  await readEvents(await bound.stream(messages, callOptions(request)), request, answer, (chunk) => {
    whole = whole === undefined ? chunk : whole.concat(chunk);
    readMessage(whole, answer);
  });
}

async function complete(request, answer) {
  answer.text = await new OpenAI({ ...openaiSettings(request), maxTokens: MAX_TOKENS }).invoke(request.prompt);
}

async function embed(embeddings, request, answer) {
  answer.extra = { embeddings: await embeddings.embedDocuments([request.prompt, 'again']) };
}

function readMessage(message, answer) {
  answer.text = message.text === '' ? null : message.text;
  const told = message.usage_metadata;
  answer.usage = told ? { input: told.input_tokens ?? null, output: told.output_tokens ?? null } : null;
  const facts = message.response_metadata ?? {};
  answer.finish = facts.finish_reason ?? facts.stop_reason ?? facts.finishReason ?? facts.status ?? null;
  const call = ({ name, args }) => ({ name, arguments: args });
  const calls = message.tool_call_chunks?.length ? message.tool_call_chunks : (message.tool_calls ?? []);
  answer.tool_calls = calls.length === 0 ? null : calls.map(call);
}
