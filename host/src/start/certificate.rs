//! The certificate that callers are shown: it is read at the start, and again while Spillway serves.

use crate::config::TlsConfig;
use crate::runtime::tls::pair::{EXPIRES_SOON, Pair};
use crate::runtime::tls::served::{FollowedPair, PairLook, Served, ServedError};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often its files are looked at. A change counts at the second look that finds it.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that it ends soon, or has ended.
const SAY_END: Duration = Duration::from_secs(24 * 60 * 60);

/// TLS as it is configured, and what follows its files; `None` where there is none.
pub(super) fn serve(config: &TlsConfig) -> Result<Option<(Arc<Served>, FollowedPair)>, ServedError> {
    let Some(files) = config.files() else { return Ok(None) };
    let (followed, pair) = FollowedPair::load(files, SystemTime::now())?;
    Ok(Some((Arc::new(Served::new(pair)?), followed)))
}

/// Follows the files until the process ends. Reads them, and their disk may hang, so that it belongs on a thread of its
/// own.
pub(super) async fn follow(served: Arc<Served>, mut followed: FollowedPair) {
    let mut looks = tokio::time::interval(LOOK);
    let mut end = SaidEnd::default();
    loop {
        looks.tick().await;
        let now = SystemTime::now();
        match followed.look(now) {
            PairLook::AsBefore => {}
            PairLook::Changed(pair) => {
                let (names, end) = (pair.names.join(", "), pair.end(now));
                served.replace(pair);
                tracing::info!(names, end, "the certificate has changed, and new connections are shown it");
            }
            PairLook::Refused(error) => {
                let in_use = served.pair().end(now);
                tracing::error!(%error, in_use, "the certificate has changed and is not taken; the last one stays in use");
            }
            PairLook::Back => tracing::info!("the certificate's files are those in use again"),
        }
        end.look(&served.pair(), now, Instant::now());
    }
}

/// When it was last said that the certificate ends.
#[derive(Debug, Default)]
struct SaidEnd(Option<Instant>);

impl SaidEnd {
    fn look(&mut self, pair: &Pair, now: SystemTime, instant: Instant) {
        if !self.is_due(pair, now, instant) {
            return;
        }
        let end = pair.end(now);
        match pair.left(now).is_zero() {
            true => tracing::error!(end, "the certificate has expired, and callers refuse it: renew it"),
            false => tracing::warn!(end, "the certificate ends soon: renew it"),
        }
    }

    /// Whether it is to be said: once a day.
    fn is_due(&mut self, pair: &Pair, now: SystemTime, instant: Instant) -> bool {
        if pair.left(now) >= EXPIRES_SOON {
            self.0 = None;
            return false;
        }
        if self.0.is_some_and(|said| instant.saturating_duration_since(said) < SAY_END) {
            return false;
        }
        self.0 = Some(instant);
        true
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::runtime::tls::pair::PairFiles;
    use spillway_tests::certificates::Authority;
    use std::fs;

    #[test]
    fn that_a_certificate_ends_is_said_once_a_day_from_a_month_before_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Authority::new().certify_for_days("localhost", 40);
        let [certificate, key] = ["certificate", "key"].map(|name| folder.path().join(name));
        fs::write(&certificate, &identity.pem).expect("written");
        fs::write(&key, &identity.key_pem).expect("written");
        let pair = PairFiles { certificate, key }.load(SystemTime::now()).expect("a pair");
        let (wall, began, hour) = (SystemTime::now(), Instant::now(), Duration::from_secs(60 * 60));
        let mut said = SaidEnd::default();
        let mut is_due = |hours: u32| said.is_due(&pair, wall + hour * hours, began + hour * hours);
        assert!((0..9 * 24).all(|hours| !is_due(hours)), "there is time");
        let days: Vec<u32> = (9 * 24..42 * 24).filter(|hours| is_due(*hours)).map(|hours| hours / 24).collect();
        assert!((32..=33).contains(&days.len()) && days.windows(2).all(|pair| pair[1] == pair[0] + 1), "{days:?}");
    }
}
