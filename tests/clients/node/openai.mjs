// `openai` in its newest generation.

import './protocol.mjs';
import OpenAI from 'openai';

import { serveOpenAI } from './openai-calls.mjs';

serveOpenAI(OpenAI);
