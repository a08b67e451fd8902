// `openai` in its last generation over `node-fetch` and an agent of its own, 4.x.

import './protocol.mjs';
import OpenAI from 'openai-old';

import { serveOpenAI } from './openai-calls.mjs';

serveOpenAI(OpenAI);
