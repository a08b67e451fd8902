//! Providers in a row behind one route, and the ledger of what each of them was asked.

use crate::provider::Provider;
use crate::provider::RecordedRequest;
use crate::setup::Setup;
use std::sync::Arc;
use std::time::Instant;

/// The upstreams' names, in the order in which they stand in the row.
pub const NAMES: [&str; 3] = ["first", "second", "third"];

/// The keys that Spillway itself has for the second and the third. For the first it has none, and sends the caller's.
pub const KEYS: [&str; 2] = ["sk-own-key-of-second", "sk-own-key-of-third"];

/// The variables in which these keys are.
const KEY_VARIABLES: [&str; 2] = ["SPILLWAY_TEST_KEY_OF_SECOND", "SPILLWAY_TEST_KEY_OF_THIRD"];

/// Where callers put credentials, beside the query.
const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Three providers that are well until told otherwise, each a server of its own.
pub struct Row {
    providers: [Provider; 3],
}

/// A call as one of them got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who.
    pub upstream: &'static str,
    /// Path and query.
    pub path: String,
    /// All that was shown as a credential, wherever it stood, in the order of arrival.
    pub credentials: Vec<String>,
    /// The body, byte for byte.
    pub body: String,
}

impl Row {
    /// Starts them on free ports.
    ///
    /// # Panics
    /// When the machine has no port, thread or descriptor left.
    #[expect(clippy::new_without_default, reason = "it starts servers")]
    pub fn new() -> Self {
        Row { providers: [Provider::start(), Provider::start(), Provider::start()] }
    }

    /// The one that is asked first, if all goes well.
    pub fn first(&self) -> &Provider {
        &self.providers[0]
    }

    /// The one after it.
    pub fn second(&self) -> &Provider {
        &self.providers[1]
    }

    /// The last one.
    pub fn third(&self) -> &Provider {
        &self.providers[2]
    }

    /// Upstreams `first`, `second` and `third` that speak this API, and a route `chain` for all requests in it, over
    /// these targets, as they stand in the configuration. Whoever comes may spend the [`KEYS`]. Nobody listens at the
    /// API's own upstream.
    pub fn setup(&self, dialect: &str, targets: &str) -> Setup {
        let bare = Setup::bare().set(&format!("upstreams.{dialect}"), "url = \"http://127.0.0.1:9\"");
        let upstreams = NAMES.iter().zip(&self.providers).fold(bare, |setup, (name, provider)| {
            let lines = format!("url = \"{}\"\ndialect = \"{dialect}\"", provider.url());
            setup.set(&format!("upstreams.{name}"), &lines)
        });
        let keys = NAMES[1..].iter().zip(KEY_VARIABLES.iter().zip(KEYS));
        let with_keys = keys.fold(upstreams, |setup, (name, (variable, key))| {
            let lines = format!("api_key_env = \"{variable}\"");
            setup.set(&format!("upstreams.{name}"), &lines).environment(variable, key)
        });
        with_keys.set("routes.chain", &format!("targets = {targets}\nopen_to_local = true"))
    }

    /// Every call so far, whoever got it, in the order of arrival.
    pub fn ledger(&self) -> Vec<Call> {
        self.arrived().into_iter().map(|(_, upstream, request)| Call::of(upstream, &request)).collect()
    }

    /// Who was called, in the order of arrival.
    pub fn asked(&self) -> Vec<&'static str> {
        self.arrived().into_iter().map(|(_, upstream, _)| upstream).collect()
    }

    fn arrived(&self) -> Vec<(Instant, &'static str, Arc<RecordedRequest>)> {
        let of = |(name, provider): (&'static str, &Provider)| {
            provider.requests().into_iter().map(move |request| (request.at, name, request)).collect::<Vec<_>>()
        };
        let mut arrived: Vec<_> = NAMES.into_iter().zip(&self.providers).flat_map(of).collect();
        arrived.sort_by_key(|(at, ..)| *at);
        arrived
    }
}

impl Call {
    fn of(upstream: &'static str, request: &RecordedRequest) -> Self {
        let query = request.query.as_deref();
        let in_query =
            query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.strip_prefix("key="));
        let in_headers = request.headers.iter().filter(|(name, _)| CREDENTIAL_HEADERS.contains(&&**name));
        let shown = in_headers.map(|(_, value)| value.strip_prefix("Bearer ").unwrap_or(value)).chain(in_query);
        Call {
            upstream,
            path: query.map_or_else(|| request.path.clone(), |query| format!("{}?{query}", request.path)),
            credentials: shown.map(str::to_owned).collect(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
        }
    }
}
