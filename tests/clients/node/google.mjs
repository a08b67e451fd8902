// `@google/genai` in its newest generation.

import './protocol.mjs';
import * as genai from '@google/genai';

import { serveGoogle } from './google-calls.mjs';

serveGoogle(genai);
