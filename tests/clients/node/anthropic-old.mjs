// `@anthropic-ai/sdk` in its last generation over `node-fetch` and an agent of its own, 0.39.

import './protocol.mjs';
import Anthropic from 'anthropic-sdk-old';

import { serveAnthropic } from './anthropic-calls.mjs';

serveAnthropic(Anthropic);
