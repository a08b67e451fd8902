//! How far something reaches that was said of a call: to all of its upstream, or to a part.

use spillway_resilience::Reach;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a circuit protects, or a lane leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protects {
    /// The upstream as a whole.
    Upstream,
    /// One of its models; the empty name stands for requests that name none.
    Model(String),
    /// One credential at it, by its fingerprint.
    Credential(u64),
    /// One of its models, as far as one credential is concerned.
    ModelOfCredential(String, u64),
}

impl fmt::Display for Protects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protects::Upstream => f.write_str("upstream"),
            Protects::Model(model) if model.is_empty() => f.write_str("requests without a model"),
            Protects::Model(model) => write!(f, "model {model}"),
            Protects::Credential(fingerprint) => write!(f, "credential {:04x}", fingerprint & 0xffff),
            Protects::ModelOfCredential(model, fingerprint) => {
                let model = if model.is_empty() { "without a name" } else { model };
                write!(f, "model {model} of credential {:04x}", fingerprint & 0xffff)
            }
        }
    }
}

/// By what a call is told from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Its model, when it names one.
    pub model: Option<&'a str>,
    /// The fingerprint of its credential.
    pub credential: u64,
}

impl Subject<'_> {
    /// Its model, as a part of its upstream.
    pub(crate) fn of_model(self) -> Protects {
        Protects::Model(self.model.unwrap_or_default().to_owned())
    }

    /// Its model, as far as its credential is concerned.
    pub(crate) fn of_model_and_credential(self) -> Protects {
        Protects::ModelOfCredential(self.model.unwrap_or_default().to_owned(), self.credential)
    }

    /// Every part of an upstream that this call belongs to, the narrowest first.
    pub(crate) fn parts(self) -> [Protects; 3] {
        [self.of_model_and_credential(), Protects::Credential(self.credential), self.of_model()]
    }

    /// What a consequence of this call reaches.
    pub(crate) fn reached(self, reach: Reach) -> Protects {
        match reach {
            Reach::Upstream => Protects::Upstream,
            Reach::Credential => Protects::Credential(self.credential),
            Reach::Model => self.of_model(),
            Reach::ModelOfCredential => self.of_model_and_credential(),
        }
    }

    /// Its model as a number, by which what is known of models is remembered.
    pub(crate) fn model_key(self) -> u64 {
        u64::from(half(self.key()))
    }

    /// Model and credential as one number, by which answers are remembered.
    pub(crate) fn key(self) -> u64 {
        u64::from(half(self.credential)) << 32 | u64::from(model_hash(self.model.unwrap_or_default()))
    }
}

impl Protects {
    /// Whether a call with this [key](Subject::key) belongs to it. Two names may share a key, once in thousands of
    /// millions of pairs; then a rate is estimated too high at first.
    pub(crate) fn has_key(&self, key: u64) -> bool {
        let (credential, model) = (half(key >> 32), half(key));
        match self {
            Protects::Upstream => true,
            Protects::Model(name) => model == model_hash(name),
            Protects::Credential(fingerprint) => credential == half(*fingerprint),
            Protects::ModelOfCredential(name, fingerprint) => {
                credential == half(*fingerprint) && model == model_hash(name)
            }
        }
    }
}

/// The lower half.
fn half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

fn model_hash(model: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    half(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Subject<'_> = Subject { model: Some("m"), credential: 7 };

    #[test]
    fn a_call_belongs_to_its_parts_and_another_does_not() {
        let other = Subject { model: Some("n"), credential: 8 };
        for part in CALL.parts() {
            assert!(part.has_key(CALL.key()) && !part.has_key(other.key()), "{part}");
        }
        assert!(Protects::Upstream.has_key(other.key()));
        let nameless = Subject { model: None, ..CALL };
        assert!(!Protects::Model("m".into()).has_key(nameless.key()));
        assert!(nameless.parts()[2].has_key(nameless.key()));
    }
}
