//! An upstream, as the proxy would reach it: by the same way, with the same trust, and with a question that costs
//! nothing.

use super::keys;
use super::reached::{Answer, Asked, Cause, Failure, KeyTried, Reached, Took};
use crate::config::{ProxyKind, SecretSource, UpstreamConfig};
use crate::dialect::Dialect;
use crate::dialect::auth::Credential;
use crate::runtime::causes::find;
use crate::runtime::clock::Clock;
use crate::runtime::shortage::Shortage;
use crate::upstream::client::{Client, Trouble, Trust, UnknownAuthority, Way, is_of_this_machine};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rustls::CertificateError;
use spillway_sdk::Fault;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long an answer may take, a new connection included, where one has just been made. Lists of models come within a
/// second.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Keys of one upstream that are tried.
const KEYS_MAX: usize = 8;

/// An upstream that is about to be reached: as if the time of all checks had passed. `is_meant` says that somebody here
/// wants it.
pub(super) fn begun(name: &str, upstream: &UpstreamConfig, is_meant: bool) -> Reached {
    let proxy = match Way::to(&upstream.url, &upstream.proxy) {
        Way::Straight => None,
        Way::Through(proxy) => Some(proxy.to_string()),
    };
    Reached {
        name: name.to_owned(),
        url: upstream.url.to_string(),
        host: upstream.url.host().to_owned(),
        is_encrypted: upstream.url.is_encrypted(),
        is_here: is_of_this_machine(upstream.url.host()),
        dialect: upstream.dialect,
        proxy,
        is_meant,
        outcome: Err(Failure {
            cause: Cause::OutOfTime,
            sentence: format!("{} has not answered in the time that all checks have", upstream.url),
        }),
        took: Took::default(),
        keys: Vec::new(),
    }
}

/// Reaches it. Its keys are shown to it only `with_keys`. Whoever stops waiting has what was found until then.
pub(super) async fn reach(reached: &mut Reached, upstream: &UpstreamConfig, with_keys: bool) {
    let way = Way::to(&upstream.url, &upstream.proxy);
    match exchange(upstream, &way, &mut reached.took).await {
        Err(failure) => reached.outcome = Err(failure),
        Ok((answer, client)) => {
            reached.outcome = Ok(answer);
            if with_keys {
                reached.keys = try_keys(&reached.name, upstream, &client).await;
            }
        }
    }
}

/// A name, then a connection by the proxy's own client, which knows what can go wrong on the way; then a question
/// without a key.
async fn exchange(upstream: &UpstreamConfig, way: &Way, took: &mut Took) -> Result<(Answer, reqwest::Client), Failure> {
    let (host, port) = match way {
        Way::Straight => (upstream.url.host(), upstream.url.port()),
        Way::Through(proxy) => (proxy.host(), proxy.port()),
    };
    let limit = upstream.connect_timeout;
    let began = Instant::now();
    match timeout(limit, lookup_host((host.trim_matches(['[', ']']), port))).await {
        Ok(Ok(_)) => took.name = Some(began.elapsed()),
        // Why is for the client to say: it has the words for it.
        Ok(Err(_)) => {}
        Err(_) => {
            let sentence = format!("the name did not resolve within {} ms: {host}", limit.as_millis());
            return Err(Failure { cause: Cause::Name, sentence });
        }
    }
    let trust = Trust::with(upstream.authorities());
    let began = Instant::now();
    let connected = Client::of(upstream, trust.clone(), Clock::start(), Arc::default()).connect().await;
    connected.map_err(|trouble| Failure { cause: cause_of(&trouble), sentence: trouble.to_string() })?;
    took.connection = Some(began.elapsed());
    let client = client(upstream, way, &trust).map_err(unasked)?;
    let (began, before) = (Instant::now(), SystemTime::now());
    let response = ask(&client, upstream, None).await.map_err(unasked)?;
    took.answer = Some(began.elapsed());
    let ours = before + began.elapsed() / 2;
    Ok((answer(&response, ours), client))
}

/// A client that goes the same way with the same trust. It follows no redirect, so that it never asks anybody else.
fn client(upstream: &UpstreamConfig, way: &Way, trust: &Trust) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured((*trust.config()).clone())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(upstream.connect_timeout)
        .timeout(ANSWER_MAX)
        .user_agent(concat!("spillway-doctor/", env!("CARGO_PKG_VERSION")));
    let Way::Through(proxy) = way else { return builder.build() };
    let mut way = reqwest::Proxy::all(proxy.uri().to_string())?;
    way = match (proxy.kind(), proxy.authorization(), proxy.name_and_password()) {
        (ProxyKind::Http { .. }, Some(authorization), _) => way.custom_http_auth(authorization.clone()),
        (ProxyKind::Socks { .. }, _, Some((name, password))) => way.basic_auth(name, password),
        _ => way,
    };
    builder.proxy(way).build()
}

/// Asks for what costs nothing: the models, or the root of what is not known.
async fn ask(
    client: &reqwest::Client,
    upstream: &UpstreamConfig,
    key: Option<&Credential>,
) -> reqwest::Result<reqwest::Response> {
    let mut headers = HeaderMap::new();
    let mut path = match upstream.dialect {
        Dialect::OpenAi if upstream.url.is_azures() && !upstream.url.has_path() => "/openai/v1/models",
        Dialect::OpenAi | Dialect::Anthropic => "/v1/models",
        Dialect::Gemini => "/v1beta/models",
        Dialect::Ollama => "/api/tags",
        Dialect::Other => "/",
    }
    .to_owned();
    if upstream.dialect == Dialect::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = key {
        key.place(&mut headers, &mut path);
    }
    let url = upstream.url.join(&path).map_or_else(|_| upstream.url.to_string(), |url| url.to_string());
    client.get(url).headers(headers).send().await
}

fn answer(response: &reqwest::Response, ours: SystemTime) -> Answer {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    // An answer that was kept on the way tells what time it was then.
    let date = text(header::DATE).filter(|_| text(header::AGE).is_none());
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Answer {
        status: response.status(),
        is_page: text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")),
        location: text(header::LOCATION).map(str::to_owned),
        clock_ahead_ms: theirs.map(|theirs| ahead_ms(ours, theirs)),
    }
}

/// By how much our clock is ahead of theirs, which tells whole seconds: in the middle of one, on average.
fn ahead_ms(ours: SystemTime, theirs: SystemTime) -> i64 {
    let ms = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    ms(ours).saturating_sub(ms(theirs).saturating_add(500))
}

/// Shows it its keys.
async fn try_keys(name: &str, upstream: &UpstreamConfig, client: &reqwest::Client) -> Vec<KeyTried> {
    let keys = keys::of(name, upstream, |variable| std::env::var_os(variable).is_some());
    let tries = keys.into_iter().take(KEYS_MAX).map(|(source, withheld)| async move {
        let asked = match withheld {
            Some(why) => Asked::Withheld(why),
            None => show(&source, upstream, client).await,
        };
        KeyTried { source: source.to_string(), asked }
    });
    futures_util::future::join_all(tries).await
}

async fn show(source: &SecretSource, upstream: &UpstreamConfig, client: &reqwest::Client) -> Asked {
    match source.read().map(|secret| Credential::new(upstream.auth, secret.expose())) {
        Err(why) => Asked::Unreadable(why),
        Ok(None) => Asked::Unreadable(format!("{source} holds what no header can")),
        Ok(Some(key)) => match ask(client, upstream, Some(&key)).await {
            Ok(response) => Asked::Answered(response.status()),
            Err(error) => Asked::Unanswered(unasked(error).sentence),
        },
    }
}

/// Why there was a connection and no answer. The URL may hold a key, and is not told.
fn unasked(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let (cause, sentence) = match Shortage::of(&error) {
        Some(shortage) => (Cause::Shortage, shortage.to_string()),
        None if error.is_timeout() => {
            (Cause::NoAnswer, format!("it accepts connections and does not answer within {} s", ANSWER_MAX.as_secs()))
        }
        None => (Cause::BrokenOff, format!("it accepts connections and breaks off: {}", innermost(&error))),
    };
    Failure { cause, sentence }
}

fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn cause_of(trouble: &Trouble) -> Cause {
    if trouble.shortage.is_some() {
        return Cause::Shortage;
    }
    match find::<rustls::Error>(trouble) {
        Some(rustls::Error::InvalidCertificate(wrong)) => return of_certificate(wrong),
        Some(rustls::Error::InvalidMessage(_)) => return Cause::NoTls,
        Some(_) => return Cause::Tls,
        None => {}
    }
    match trouble.fault {
        Fault::Dns => Cause::Name,
        Fault::ConnectTimeout => Cause::Silent,
        Fault::ConnectRefused => Cause::Refused,
        Fault::Protocol => Cause::ProxyRefused,
        Fault::Tls => Cause::Tls,
        _ => Cause::BrokenOff,
    }
}

fn of_certificate(wrong: &CertificateError) -> Cause {
    match wrong {
        CertificateError::UnknownIssuer => Cause::UnknownAuthority,
        wrong if UnknownAuthority::in_error(wrong).is_some() => Cause::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Cause::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Cause::OtherName,
        _ => Cause::Tls,
    }
}

/// What a status is called in a sentence.
pub(super) fn in_words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_second_that_was_told() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(ahead_ms(at(1_500), at(1_000)), 0);
        assert_eq!(ahead_ms(at(61_500), at(1_000)), 60_000);
        assert_eq!(ahead_ms(at(1_000), at(61_000)), -60_500);
    }
}
