// `@google/genai` in its first generation, 1.x.

import './protocol.mjs';
import * as genai from 'google-genai-old';

import { serveGoogle } from './google-calls.mjs';

serveGoogle(genai);
