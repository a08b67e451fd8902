//! `[upstreams.NAME.limits]`: the provider's quota, and how it is waited for.

use super::kind::{Maybe, Time, Whole, Word};
use super::reader::Section;
use super::section::section;
use crate::dialect::estimate::tokenizer::{HAS_VOCABULARIES, Tokenizer};
use spillway_resilience::FairQueueSettings;
use std::time::Duration;

/// Largest quota per minute that makes sense to write down.
pub(super) const QUOTA_MAX: u64 = 1_000_000_000;
/// Bounds on those who wait.
const WAITING: Whole = Whole(1..=FairQueueSettings::WAITING_MAX as u64);

section! {
    /// The provider's quota, mirrored so that it is not overrun, and how it is waited for. There is none by default.
    /// Tokens are estimated ([estimates.md](estimates.md)), and corrected by what the provider reports.
    pub struct Limits {
        /// Requests per minute.
        requests_per_minute: Option<u64> = None, Maybe(Whole(1..=QUOTA_MAX));
        /// Tokens per minute, input and output together.
        tokens_per_minute: Option<u64> = None, Maybe(Whole(1..=QUOTA_MAX));
        /// Output tokens reserved for a request that names no maximum.
        default_output_tokens: u64 = 1_024, Whole(0..=QUOTA_MAX);
        /// Most tokens that a prompt and its answer can have together.
        context_tokens: Option<u64> = None, Maybe(Whole(1..=QUOTA_MAX)), shown as "by what is known of the model";
        /// The tokeniser of all of its models, if texts are to be counted and not [estimated](estimates.md#an-exact-count):
        /// `o200k` is that of GPT-4o and later ones, `cl100k` that of GPT-4, GPT-3.5 and OpenAI's embeddings.
        tokenizer: Option<Tokenizer> = None, Maybe(Word(&Tokenizer::ALL, Tokenizer::as_str)),
            shown as "none: estimated by what texts are made of";
        /// How long a live request waits for quota and for a place in flight; not longer than `server.request_timeout`.
        // Shorter than people's patience, and longer than most of the waits that a provider's 429 would name.
        patience: Duration = Duration::from_secs(10), Time::POSITIVE_OR_NONE;
        /// Most requests that wait.
        max_waiting: u32 = FairQueueSettings::DEFAULT_MAX_WAITING, WAITING;
        /// Most requests of one tenant that wait; not more than `max_waiting`.
        max_waiting_per_tenant: u32 = FairQueueSettings::DEFAULT_MAX_WAITING_PER_TENANT, WAITING;
    }
}

/// Requests and tokens per minute, each without limit when `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together.
    pub tokens_per_minute: Option<u64>,
}

impl Limits {
    /// `outer` ends whoever waits in any case.
    pub(super) fn read(section: Section<'_>, outer: (&str, Duration)) -> Limits {
        let mut limits = Limits::fresh(section.folder());
        limits.take(&section);
        section.within("patience", &mut limits.patience, outer);
        if !section.has_taken("max_waiting_per_tenant") {
            // Whoever shortens the queue has not asked for a longer share of it.
            limits.max_waiting_per_tenant = limits.max_waiting_per_tenant.min(limits.max_waiting);
        }
        if limits.tokenizer.is_some() && !HAS_VOCABULARIES {
            section.mistake("tokenizer", "this Spillway was built without tokenisers (cargo's feature \"tokenizer\")");
        }
        section.mistakes(limits.queue().validate());
        section.finish();
        limits
    }

    /// What the provider allows.
    pub fn quota(&self) -> Quota {
        Quota { requests_per_minute: self.requests_per_minute, tokens_per_minute: self.tokens_per_minute }
    }

    /// Who waits, and how many.
    pub fn queue(&self) -> FairQueueSettings {
        let Limits { max_waiting, max_waiting_per_tenant, .. } = *self;
        FairQueueSettings { max_waiting, max_waiting_per_tenant, ..FairQueueSettings::default() }
    }
}
