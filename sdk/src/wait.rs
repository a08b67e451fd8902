//! Reads how long a provider asks to wait, and when its limits are full again, in each of the forms that providers use.

use memchr::memmem;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// The longest wait believed. A longer one is a mistake of its sender, and is cut to this.
///
/// ```
/// use spillway_sdk::{testing::exchange, wait::WAIT_MAX};
///
/// let facts = exchange().status(429).header("retry-after", "31536000");
/// assert_eq!(facts.exchange().retry_after(), Some(WAIT_MAX));
/// ```
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that a response's headers ask for.
///
/// In order of trust: `retry-after-ms`; `retry-after` as seconds (fractions allowed) or as an HTTP date relative to when
/// the response was sent (see [`sent_at`]). Rate-limit reset headers are no wait: they say when a bucket is *full*, not when it may be used.
///
/// ```
/// use spillway_sdk::wait::from_headers;
/// use std::time::{Duration, SystemTime};
///
/// let header = |name: &str| (name == "retry-after").then_some(&b"2.5"[..]);
/// assert_eq!(from_headers(header, SystemTime::now()), Some(Duration::from_millis(2_500)));
/// ```
pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a [u8]>, now: SystemTime) -> Option<Duration> {
    let text = |name| header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    text("retry-after-ms")
        .and_then(|value| decimal(value, 0.001))
        .or_else(|| {
            text("retry-after")
                .and_then(|value| decimal(value, 1.0).or_else(|| until_date(value, || sent_at(&header, now))))
        })
        .map(|wait| wait.min(WAIT_MAX))
}

/// When a response was sent, by the clock of whoever sent it: its `date`. Dates in it are of the same clock, so that what
/// lies between them is true whatever ours shows. `now` where it says nothing of that, or says by its `age` that it was
/// kept since.
///
/// ```
/// use spillway_sdk::wait::from_headers;
/// use std::time::{Duration, SystemTime};
///
/// let headers = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")];
/// let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes());
/// assert_eq!(from_headers(header, SystemTime::now()), Some(Duration::from_secs(10)));
/// ```
pub fn sent_at<'a>(header: impl Fn(&str) -> Option<&'a [u8]>, now: SystemTime) -> SystemTime {
    let date = || httpdate::parse_http_date(std::str::from_utf8(header("date")?).ok()?.trim()).ok();
    if header("age").is_some() { now } else { date().unwrap_or(now) }
}

/// The wait that an error body asks for: Google's `RetryInfo.retryDelay`, anywhere among the error's details. Of a stream
/// of events, that of the event which names one.
///
/// ```
/// use spillway_sdk::wait::from_body;
/// use std::time::Duration;
///
/// let body = br#"{"error":{"code":429,"details":[{"retryDelay":"37s"}]}}"#;
/// assert_eq!(from_body(body), Some(Duration::from_secs(37)));
/// let stream = [b"data: {\"candidates\":[]}\n\ndata: ", &body[..], b"\n\n"].concat();
/// assert_eq!(from_body(&stream), Some(Duration::from_secs(37)));
/// ```
pub fn from_body(body: &[u8]) -> Option<Duration> {
    // Most bodies have none: look for the word before parsing.
    let names_a_wait = |text: &[u8]| memmem::find(text, b"retryDelay").is_some();
    let named_in = |text: &[u8]| {
        let value: Value = serde_json::from_slice(text).ok()?;
        let top = value.as_array().and_then(|list| list.first()).unwrap_or(&value);
        let details = top.get("error")?.get("details")?.as_array()?;
        details.iter().find_map(|detail| duration(detail.get("retryDelay")?.as_str()?)).map(|wait| wait.min(WAIT_MAX))
    };
    if !names_a_wait(body) {
        return None;
    }
    let mut events = body.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    named_in(body).or_else(|| events.find_map(|data| if names_a_wait(data) { named_in(data) } else { None }))
}

/// A duration as Go and Protocol Buffers write it: `37s`, `1.5s`, `6m0s`, `12ms`, `1h2m3s`. It is not bounded.
///
/// ```
/// assert_eq!(spillway_sdk::wait::duration("6m0.5s"), Some(std::time::Duration::from_millis(360_500)));
/// assert_eq!(spillway_sdk::wait::duration("soon"), None);
/// ```
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_length = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let (unit, tail) = rest[digits..].split_at(unit_length);
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// The time until the moment that a reset header names, in each of the forms that providers use: a duration (`6m0s`), a
/// number of seconds (`12`, `0.5`), a Unix time in seconds or milliseconds (as any number from 10⁹ on is read), RFC 3339
/// (`2025-08-21T12:40:59Z`), or an HTTP date.
///
/// Zero when the moment has passed at `now`. `None` when it is none of these; a negative number is none. It is not
/// bounded, and it is no wait: at that moment a limit is *full* again, and some of it is there sooner.
///
/// ```
/// use spillway_sdk::wait::reset;
/// use std::time::{Duration, SystemTime};
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_755_780_000);
/// for text in ["59s", "59", "1755780059", "1755780059000", "2025-08-21T12:40:59Z", "Thu, 21 Aug 2025 12:40:59 GMT"] {
///     assert_eq!(reset(text, now), Some(Duration::from_secs(59)), "{text}");
/// }
/// assert_eq!(reset("-1", now), None);
/// ```
pub fn reset(text: &str, now: SystemTime) -> Option<Duration> {
    reset_since(text, || now)
}

/// As [`reset`], with a `now` that is asked for only by what names a moment.
pub(crate) fn reset_since(text: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    /// No limit is full again only after thirty years.
    const UNIX_TIME_MIN: f64 = 1e9;
    /// Seconds would be in the year 33658.
    const UNIX_TIME_MS_MIN: f64 = 1e12;
    let text = text.trim();
    if let Some(number) = plain_number(text) {
        let seconds = if number < UNIX_TIME_MS_MIN { number } else { number / 1_000.0 };
        let duration = Duration::try_from_secs_f64(seconds).ok()?;
        return match number < UNIX_TIME_MIN {
            true => Some(duration),
            false => SystemTime::UNIX_EPOCH.checked_add(duration).map(|moment| until(moment, now())),
        };
    }
    if let Some(duration) = duration(text) {
        return Some(duration);
    }
    match humantime::parse_rfc3339_weak(text) {
        Ok(moment) => Some(until(moment, now())),
        Err(_) => until_date(text, now),
    }
}

fn plain_number(text: &str) -> Option<f64> {
    // `f64` would also read `inf`, `nan`, a sign and an exponent; none of these is meant by a header.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn until(moment: SystemTime, now: SystemTime) -> Duration {
    moment.duration_since(now).unwrap_or_default()
}

fn decimal(text: &str, unit_seconds: f64) -> Option<Duration> {
    let seconds = plain_number(text)? * unit_seconds;
    Duration::try_from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())).ok()
}

fn until_date(text: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    httpdate::parse_http_date(text).ok().map(|date| until(date, now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        from_headers(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes()), now)
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let cases = [
            (&[("retry-after", "3")][..], Some(Duration::from_secs(3))),
            (&[("retry-after", "0.5")], Some(Duration::from_millis(500))),
            (&[("retry-after-ms", "120"), ("retry-after", "3")], Some(Duration::from_millis(120))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(Duration::from_secs(10))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT")], Some(Duration::ZERO)),
            // By the clock of whoever sent it, unless it was kept since.
            (
                &[("retry-after", "Mon, 07 Nov 1994 09:49:47 GMT"), ("date", "Mon, 07 Nov 1994 09:49:37 GMT")],
                Some(Duration::from_secs(10)),
            ),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"),
                    ("date", "Sun, 06 Nov 1994 07:00:00 GMT"),
                    ("age", "6577"),
                ],
                Some(Duration::from_secs(10)),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", "today")], Some(Duration::from_secs(10))),
            (&[("retry-after", "999999999999")], Some(WAIT_MAX)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "nan")], None),
            (&[("retry-after", "soon")], None),
            (&[("x-ratelimit-reset-tokens", "6m0s")], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(asked(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn durations_are_read_as_go_and_protobuf_write_them() {
        let cases = [
            ("37s", Some(37_000)),
            ("1.5s", Some(1_500)),
            ("6m0s", Some(360_000)),
            ("12ms", Some(12)),
            ("1h2m3s", Some(3_723_000)),
            ("", None),
            ("12", None),
            ("s", None),
            ("168h", Some(604_800_000)),
            ("3 weeks", None),
        ];
        for (text, expected_ms) in cases {
            assert_eq!(duration(text), expected_ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_reset_that_has_passed_is_zero_and_what_cannot_be_read_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_755_780_000);
        for passed in ["0", "0s", "1755779999", "1755779999123", "2025-08-21T12:39:59Z"] {
            assert_eq!(reset(passed, now), Some(Duration::ZERO), "{passed}");
        }
        for unread in ["", ".", "-1", "1e3", "inf", "NaN", "soon", "2025-08-21", "1..2", &"9".repeat(400)] {
            assert_eq!(reset(unread, now), None, "{unread}");
        }
    }

    #[test]
    fn googles_retry_delay_is_found_among_the_details() {
        let body =
            br#"{"error":{"code":429,"details":[{"@type":"QuotaFailure"},{"@type":"RetryInfo","retryDelay":"37s"}]}}"#;
        assert_eq!(from_body(body), Some(Duration::from_secs(37)));
        assert_eq!(from_body(br#"{"error":{"message":"retryDelay"}}"#), None);
    }

    #[test]
    fn googles_retry_delay_is_found_in_a_streams_event() {
        let error = r#"{"error":{"code":429,"details":[{"retryDelay":"1.5s"}]}}"#;
        for stream in [format!("data: {error}\r\n\r\n"), format!("data: {{\"candidates\":[]}}\n\ndata:{error}\n\n")] {
            assert_eq!(from_body(stream.as_bytes()), Some(Duration::from_millis(1_500)), "{stream}");
        }
        let content = br#"data: {"candidates":[{"content":"{\"retryDelay\":\"9s\"}"}]}"#;
        assert_eq!(from_body(content), None, "what a model writes names no wait");
    }
}
