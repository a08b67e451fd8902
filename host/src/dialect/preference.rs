//! Whether a caller likes a promise better than an error.

use http::HeaderMap;
use std::time::Duration;

/// What a caller prefers, by RFC 7240.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preference {
    /// `respond-async`: a 202 is welcome, should the request not be served now.
    pub respond_async: bool,
    /// `wait`: for so long an answer is preferred to a 202.
    pub wait: Option<Duration>,
}

impl Preference {
    /// Longest wait honoured: Node's own HTTP client gives up after 300 seconds.
    pub(crate) const WAIT_MAX: Duration = Duration::from_secs(240);

    /// Reads every `Prefer` header.
    pub(crate) fn read(headers: &HeaderMap) -> Preference {
        let mut preference = Preference::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for token in values.flat_map(|value| value.split(',')) {
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                preference.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait") {
                let seconds = value.trim().trim_matches('"').parse::<u64>().ok();
                preference.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(Preference::WAIT_MAX));
            }
        }
        preference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn preferences_are_read_from_every_header() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            Preference::read(&headers)
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(read(&[]), Preference::default());
        assert_eq!(read(&["respond-async"]), Preference { respond_async: true, wait: None });
        assert_eq!(read(&["respond-async, wait=20"]), Preference { respond_async: true, wait: seconds(20) });
        assert_eq!(read(&["Wait=5", "Respond-Async"]), Preference { respond_async: true, wait: seconds(5) });
        assert_eq!(read(&["respond-async, wait=9999"]).wait, Some(Preference::WAIT_MAX));
        assert_eq!(read(&["respond-async, wait=soon"]).wait, None);
    }
}
