// What all Node clients of the comparison have in common: requests come as JSON lines on standard input, answers go as
// JSON lines to standard output, in any order, until the input ends.
//
// A client imports this file first, for it clears the environment and the output before a library reads or writes them.

import { AsyncLocalStorage } from 'node:async_hooks';
import { Console } from 'node:console';
import readline from 'node:readline';

/** How many errors beside the one that a call threw are kept of each call. */
const STRAY_ERRORS_MAX = 5;

/** Names of variables by which libraries would take addresses, keys or proxies from the machine instead of the case. */
const NOT_FROM_THE_MACHINE =
  /^(OPENAI|ANTHROPIC|GOOGLE|GEMINI|AI_GATEWAY|LANGCHAIN|LANGSMITH|(HTTPS?|ALL|NO)_PROXY$|NODE_USE_ENV_PROXY$)/i;

for (const name of Object.keys(process.env)) {
  if (NOT_FROM_THE_MACHINE.test(name)) delete process.env[name];
}

// Standard output belongs to the protocol, whatever a library prints.
const writeToDriver = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
globalThis.console = new Console(process.stderr, process.stderr);

/** The case in which the code that runs at the moment was started. */
const currentCase = new AsyncLocalStorage();

/**
 * Answers requests until the input ends.
 *
 * `library` says how errors are told: `{ name, owns: error => boolean, details?: error => ({status, code, type}) }`.
 * `calls` has a function for each `"dialect call"`, or for each `call` alone: `(request, answer) => Promise<void>`. It
 * fills in the answer as it learns it, so that what came before an error is told beside the error.
 */
export function serve(library, calls) {
  reportStrayErrors(library);
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity });
  const underWay = new Set();
  lines.on('line', (line) => {
    if (line.trim() === '') return;
    const done = answerLine(library, calls, line).finally(() => underWay.delete(done));
    underWay.add(done);
  });
  lines.on('close', async () => {
    await Promise.all(underWay);
    // Libraries keep connections open for later calls, and these keep a process alive.
    writeToDriver('', () => process.exit(0));
  });
}

async function answerLine(library, calls, line) {
  let request;
  try {
    request = JSON.parse(line);
  } catch (error) {
    console.error(`this line is no request: ${error.message}: ${line}`);
    return;
  }
  request.options ??= {};
  const answer = emptyAnswer(request.id);
  const call = calls[`${request.dialect} ${request.call}`] ?? calls[request.call];
  if (call === undefined) {
    answer.unsupported = true;
  } else {
    await currentCase.run(answer, () => attempt(library, call, request, answer));
  }
  writeToDriver(`${JSON.stringify(answer)}\n`);
}

async function attempt(library, call, request, answer) {
  const started = performance.now();
  try {
    await call(request, answer);
  } catch (error) {
    if (error instanceof Unsupported) {
      answer.unsupported = true;
    } else {
      answer.error = describeError(library, error);
    }
  }
  answer.seconds = (performance.now() - started) / 1000;
  answer.tool_calls = answer.tool_calls?.map(withParsedArguments) ?? null;
  // Promises that nobody awaits are reported in a later turn of the event loop than the error that the call threw.
  await new Promise((resolve) => setImmediate(resolve));
}

/** Libraries give arguments parsed or as the text that came; where it parses, it is compared as what it means. */
function withParsedArguments({ name, arguments: given }) {
  if (typeof given !== 'string') return { name, arguments: given ?? null };
  try {
    return { name, arguments: JSON.parse(given) };
  } catch {
    return { name, arguments: given };
  }
}

/** What reaches an application as it is: a text (such as the page of a proxy), or an object of any kind. */
export function keep(answer, value) {
  if (typeof value === 'string') {
    answer.text = value;
  } else {
    answer.extra = { ...answer.extra, answer: value ?? null };
  }
}

/** The texts of an answer to which there may be several; all of them are told where there are. */
export function keepTexts(answer, texts) {
  answer.text = texts[0] ?? null;
  answer.texts = texts.length > 1 ? [...texts] : null;
}

function emptyAnswer(id) {
  return {
    id,
    text: null,
    texts: null,
    usage: null,
    tool_calls: null,
    finish: null,
    events: null,
    extra: null,
    error: null,
    unsupported: false,
  };
}

/** Thrown by a call that the library has in general, but not in this version or with these options. */
export class Unsupported extends Error {}

/**
 * The error as an application sees it: its class with the library's name in front, and what it can branch on. Why a
 * connection failed stands in `cause`, below the error.
 */
export function describeError(library, error) {
  if (!(error instanceof Error)) {
    return { class: typeof error, status: null, code: null, type: null, message: asText(error) };
  }
  const details = { status: error.status, code: error.code, type: error.type, ...library.details?.(error) };
  const described = {
    class: library.owns(error) ? `${library.name}.${className(error)}` : className(error),
    status: details.status ?? null,
    code: details.code ?? null,
    type: details.type ?? null,
    message: error.message,
  };
  const cause = rootCause(error);
  if (cause !== undefined) described.cause = cause;
  return described;
}

/** Some libraries name their classes, others the error; bundlers shorten the former and leave the latter. */
function className(error) {
  return error.name !== 'Error' && error.name ? error.name : (error.constructor?.name ?? 'Error');
}

function rootCause(error) {
  let cause = error.cause;
  while (cause?.cause !== undefined) cause = cause.cause;
  if (cause === undefined || cause === null) return undefined;
  return cause instanceof Error ? (cause.code ?? `${className(cause)}: ${cause.message}`) : asText(cause);
}

function asText(value) {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
}

/** Rejections that nobody handled belong to the case that started them, and must not end all others with them. */
function reportStrayErrors(library) {
  const report = (kind) => (reason) => {
    const answer = currentCase.getStore();
    console.error(`${kind} in case ${answer?.id ?? 'unknown'}:`, reason);
    if (answer === undefined) return;
    answer.extra ??= {};
    answer.extra.stray_errors ??= [];
    if (answer.extra.stray_errors.length < STRAY_ERRORS_MAX) {
      answer.extra.stray_errors.push({ kind, ...describeError(library, reason) });
    }
  };
  process.on('unhandledRejection', report('unhandled rejection'));
  process.on('uncaughtException', report('uncaught exception'));
}
