//! Teach Spillway your provider's habits: a policy is one Rust type, compiled to WebAssembly and dropped into a
//! folder.
//!
//! A policy answers up to three questions. [`Policy::classify`]: what does the end of this attempt mean?
//! [`Policy::backoff`]: how long to wait before the next? [`Policy::trip`]: should the circuit open? Each answer is
//! optional; what a policy leaves open, the built-in policy ([`builtin`]) and the operator's settings decide.
//!
//! What a policy sees of an attempt is an [`Exchange`], and of a circuit a [`Window`]; [`testing`] builds both for
//! native tests. The provider's error, the wait it asks for and the limits it reports come ready-made, so a policy
//! needs no JSON parser, no clock and no knowledge of Wasm.
//!
//! ```
//! use spillway_sdk::{Exchange, Policy, Scope, Verdict};
//!
//! /// Our gateway says 418 when the region is drained, with all its models.
//! #[derive(Default)]
//! struct DrainedRegion;
//!
//! impl Policy for DrainedRegion {
//!     fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
//!         (exchange.status() == Some(418)).then(|| Verdict::overloaded("region drained").scope(Scope::Upstream))
//!     }
//! }
//!
//! // In a policy's own crate, one more line makes it loadable: `spillway_sdk::export!(DrainedRegion);`
//!
//! let facts = spillway_sdk::testing::exchange().status(418);
//! let verdict = DrainedRegion.classify(&facts.exchange());
//! assert_eq!(verdict.map(|verdict| verdict.scope), Some(Scope::Upstream));
//! ```

pub mod body_json;
pub mod builtin;
mod exchange;
#[doc(hidden)]
pub mod guest;
mod policy;
mod provider_error;
pub mod rate_limits;
mod settings;
#[cfg(feature = "sources")]
pub mod sources;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;
pub mod wait;
mod window;

pub use exchange::{AttemptFacts, BODY_PREFIX_BYTES_MAX, Exchange, Fault, Phase, ProviderError};
pub use guest::{LogLevel, log};
pub use policy::{Hooks, Policy};
pub use provider_error::MESSAGE_BYTES_MAX;
pub use rate_limits::{Dimension, RateLimit};
pub use settings::Settings;
pub use verdict::{Advice, Class, RetryDecision, Scope, TripDecision, Verdict};
pub use window::{CircuitState, Window, WindowFacts};

/// Makes a policy loadable: `export!(MyPolicy);`, once in its crate.
///
/// The module's name and version are those of the crate. Natively, in tests, it only checks the type.
///
/// ```
/// #[derive(Default)]
/// struct Mine;
///
/// impl spillway_sdk::Policy for Mine {}
///
/// spillway_sdk::export!(Mine);
/// ```
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        // Names of the component model are no names for a native linker, so native builds check the type only.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $policy = $crate::guest::fresh;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::std::{cell::RefCell, option::Option, result::Result, string::String, thread_local};
            use $crate::guest::bindings::{self, exports::spillway::policy as contract, spillway::policy::host};

            thread_local! {
                static POLICY: RefCell<$policy> = RefCell::new($crate::guest::fresh());
            }

            struct Guest;

            impl contract::description::Guest for Guest {
                fn describe() -> contract::description::Description {
                    $crate::guest::describe::<$policy>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
                }
                fn configure(settings: String) -> Result<(), String> {
                    POLICY.with_borrow_mut(|policy| $crate::guest::configure(policy, &settings))
                }
            }

            impl contract::classifier::Guest for Guest {
                fn classify(attempt: &host::Attempt) -> Option<contract::classifier::Verdict> {
                    POLICY.with_borrow(|policy| $crate::guest::classify(policy, attempt))
                }
            }

            impl contract::retrying::Guest for Guest {
                fn backoff(
                    attempt: &host::Attempt,
                    verdict: contract::classifier::Verdict,
                ) -> Option<contract::retrying::Decision> {
                    POLICY.with_borrow(|policy| $crate::guest::backoff(policy, attempt, verdict))
                }
            }

            impl contract::tripping::Guest for Guest {
                fn trip(window: &host::Window) -> Option<contract::tripping::Decision> {
                    POLICY.with_borrow(|policy| $crate::guest::trip(policy, window))
                }
            }

    bindings::export_bindings!(Guest with_types_in bindings);
        };
    };
}
