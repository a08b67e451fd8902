//! Through a proxy: its own connection, and what it is asked for on it.

use super::dial::Addresses;
use super::stream::{AbruptEnd, Bottom, Stream, encrypted};
use super::trouble::Trouble;
use super::trust::Trust;
use crate::config::{Proxy, ProxyKind};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use spillway_sdk::Fault;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use tower_service::Service;

/// A connection to a proxy, over which plain HTTP is asked for by whole URLs.
///
/// # Errors
/// When the proxy is not there.
pub(super) async fn to_proxy(
    proxy: &Proxy,
    addresses: &Addresses,
    trust: &Trust,
    end: &AbruptEnd,
) -> Result<Stream, Trouble> {
    let of_proxy =
        |trouble: Trouble| Trouble { sentence: format!("on the way through a proxy: {trouble}").into(), ..trouble };
    let stream = Bottom::new(addresses.connect().await.map_err(of_proxy)?, end.clone());
    match proxy.kind() {
        ProxyKind::Http { tls: true } => {
            encrypted(Box::new(stream), proxy.host(), &proxy.to_string(), trust).await.map_err(of_proxy)
        }
        ProxyKind::Http { tls: false } | ProxyKind::Socks { .. } => Ok(Box::new(stream)),
    }
}

/// Asks an HTTP proxy for a connection to `target`, a host and a port.
///
/// # Errors
/// When it refuses.
pub(super) async fn tunnelled(stream: Stream, proxy: &Proxy, target: &str) -> Result<Stream, Trouble> {
    let lost = |error: hyper::Error| {
        let cause = format!("the proxy {proxy} broke off instead of connecting to {target} ({error})");
        Trouble::told_by(Fault::ConnectRefused, cause, error)
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::task::spawn_local(connection.with_upgrades());
    let mut request = Request::connect(target).header(header::HOST, target);
    if let Some(authorization) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new());
    let request =
        request.map_err(|error| Trouble::told_by(Fault::Protocol, format!("no proxy can be asked: {error}"), error))?;
    let response = sender.send_request(request).await.map_err(lost)?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(proxy, target, status));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// A proxy that has answered has its reasons. What it says of us will be said again, and may lock an account; what it
/// says of others may pass.
pub(super) fn refused(proxy: &Proxy, target: &str, status: StatusCode) -> Trouble {
    let advice = match (status, proxy.authorization()) {
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => "; it wants a name and a password, which its URL can hold",
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(_)) => "; the name or the password in its URL are not right",
        _ => "",
    };
    let fault = if status.is_client_error() { Fault::Protocol } else { Fault::ConnectRefused };
    Trouble::new(fault, format!("the proxy {proxy} refuses to connect to {target} ({status}){advice}"))
}

/// Asks a SOCKS proxy for a connection to `target`.
///
/// # Errors
/// When it refuses.
pub(super) async fn through_socks(stream: Stream, proxy: &Proxy, target: &Uri) -> Result<Stream, Trouble> {
    let connected = Connected(Some(TokioIo::new(stream)));
    let mut socks = SocksV5::new(proxy.uri().clone(), connected);
    if let Some((name, password)) = proxy.name_and_password() {
        socks = socks.with_auth(name.to_owned(), password.to_owned());
    }
    match socks.call(target.clone()).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => {
            let cause = format!("the proxy {proxy} refuses to connect to {target} ({error})");
            // The library names its errors, and lets nobody match on them.
            let words = format!("{error:?}");
            let is_final = words.contains("Auth(") || words.contains("ConnectionNotAllowed");
            let fault = if is_final { Fault::Protocol } else { Fault::ConnectRefused };
            Err(Trouble::told_by(fault, cause, error))
        }
    }
}

/// A connection that is there already, for who would make one.
struct Connected(Option<TokioIo<Stream>>);

impl Service<Uri> for Connected {
    type Response = TokioIo<Stream>;
    type Error = NotTwice;
    type Future = Ready<Result<TokioIo<Stream>, NotTwice>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotTwice>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or(NotTwice))
    }
}

/// A connection can be used once.
#[derive(Debug, thiserror::Error)]
#[error("it is in use")]
struct NotTwice;
