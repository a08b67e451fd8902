// `@anthropic-ai/sdk` in its newest generation.

import './protocol.mjs';
import Anthropic from '@anthropic-ai/sdk';

import { serveAnthropic } from './anthropic-calls.mjs';

serveAnthropic(Anthropic);
