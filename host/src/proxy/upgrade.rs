//! A connection that speaks another protocol from here on, such as a WebSocket: its life from the provider's 101.
//!
//! Until then it is a request like any other, and takes the same way: guard, access, shedding, limits, circuits, and
//! the handshake as an attempt that is judged, retried and refused like all. What is said here comes behind that.

mod ending;
mod frames;
mod inflate;
mod pump;
mod session;

use crate::dialect::headers::strip_hop_by_hop;
use crate::dialect::upgrade;
use crate::proxy::body::{Body, BytesToCaller, CallersBytes, Parting, Run, Switching};
use crate::proxy::completion::Completion;
use crate::proxy::hold::BufferedResponse;
use crate::proxy::upgrade::ending::{Cause, Side};
use crate::proxy::upgrade::inflate::Form;
use crate::proxy::upgrade::pump::{Movement, Pump};
use crate::proxy::upgrade::session::Session;
use crate::upstream::client::Switched;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// For so long after the handshake an end says that the provider does not serve, unless it has said something. Whoever
/// has borne the connection for longer only waits to be asked.
const PROVEN_AFTER: Duration = Duration::from_secs(5);

/// For how long a WebSocket goes on once one side sends no more, which ends it: for the goodbye of the other. What stays
/// longer has nobody who waits for it, and holds its place in flight.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a goodbye of ours may take to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The code with which a server closes that goes away (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;
/// The code with which one closes that may not go on with this caller.
const POLICY_VIOLATION: u16 = 1008;

/// A connection to be relayed, once the caller has been told.
#[derive(Debug)]
struct Relay {
    provider: Switched,
    session: Session,
}

/// Tells the caller that the provider has switched. What follows is relayed by [`Switching::run`].
pub(crate) fn switch(held: BufferedResponse, provider: Switched, completion: Completion) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.clone_from(&held.headers);
    strip_hop_by_hop(headers);
    // The provider says what it speaks from here on; one that does not means what it was asked for.
    let agreed = held.headers.get(header::UPGRADE).or(completion.target.request.upgrade.as_ref());
    let agreed = agreed.cloned().unwrap_or_else(|| HeaderValue::from_static("websocket"));
    upgrade::insert(headers, agreed.clone());
    completion.trace.insert_headers(headers);
    completion.target.upstream.metrics.overhead(completion.trace.overhead());
    let session = Session::begin(&agreed, Form::of(&held.headers), completion);
    *response.body_mut() = Body::Switched(Box::new(Relay { provider, session }));
    response
}

impl Switching for Relay {
    fn run(self: Box<Self>, from_caller: CallersBytes, to_caller: BytesToCaller, ahead: Bytes) -> Run {
        Box::pin((*self).relay(from_caller, to_caller, ahead))
    }
}

impl Relay {
    /// Relays until the end. Answers how to leave the caller.
    async fn relay(self, from_caller: CallersBytes, mut to_caller: BytesToCaller, ahead: Bytes) -> Parting {
        let Relay { provider, session } = self;
        let (idle_timeout, app) = (session.idle_timeout(), session.app());
        let key = session.key();
        let end_of_provider = provider.end.clone();
        let (session, movement) = (RefCell::new(session), Movement::begin());
        let (out_is_midway, in_is_midway) = (Cell::new(false), Cell::new(false));
        let leaving = Notify::new();

        // Take the connection over.
        let (from_provider, mut to_provider) = match provider.bytes().await {
            Ok(bytes) => tokio::io::split(bytes),
            Err(_) => {
                session.into_inner().end(Cause::Lost(Side::Provider));
                return Parting::Reset;
            }
        };

        // Relay both ways, read beside it what is said, and let each end by itself.
        let outwards = async {
            let pump = Pump { movement: &movement, is_midway: &out_is_midway };
            let passed = |bytes: &[u8]| session.borrow_mut().passed(Side::Caller, bytes);
            let stop = pump.run(from_caller, &mut to_provider, &ahead, passed).await;
            leaving.notify_one();
            session.borrow_mut().stopped(Side::Caller, &stop)
        };
        let inwards = async {
            let pump = Pump { movement: &movement, is_midway: &in_is_midway };
            let passed = |bytes: &[u8]| session.borrow_mut().passed(Side::Provider, bytes);
            let stop = pump.run(from_provider, &mut to_caller, &[], passed).await;
            leaving.notify_one();
            session.borrow_mut().stopped(Side::Provider, &stop)
        };
        let both = async { tokio::try_join!(outwards, inwards) };

        // Whatever ends it first.
        let cut = tokio::select! {
            biased;
            _ended = both => None,
            () = movement.silence(idle_timeout) => Some(Cause::Silence),
            () = app.sockets_end() => Some(Cause::Drain),
            () = async {
                match &key {
                    Some(key) => key.revoked().await,
                    None => pending().await,
                }
            } => Some(Cause::Revoked),
            cause = async {
                leaving.notified().await;
                if !session.borrow().is_websocket() {
                    return pending().await;
                }
                sleep(LEAVING_TIMEOUT).await;
                session.borrow().cause()
            } => Some(cause),
            never = async {
                sleep(PROVEN_AFTER).await;
                session.borrow_mut().has_stood();
                pending().await
            } => never,
        };

        // Leave both sides as they were left, and settle.
        let session = session.into_inner();
        let cause = cut.unwrap_or_else(|| session.cause());
        let parting = match cause {
            Cause::Ended(_) => Parting::Close,
            // A goodbye must not stand within what is under way.
            Cause::Silence | Cause::Drain | Cause::Revoked if session.may_say_goodbye() && !in_is_midway.get() => {
                let code = if cause == Cause::Revoked { POLICY_VIOLATION } else { GOING_AWAY };
                say_goodbye(&mut to_caller, code).await
            }
            Cause::Lost(_) | Cause::Silence | Cause::Drain | Cause::Revoked => Parting::Reset,
        };
        if matches!(cause, Cause::Lost(Side::Caller)) {
            end_of_provider.reset_on_close();
        }
        session.end(cause);
        parting
    }
}

/// Closes a WebSocket with this code: our last frame, unmasked, as a server's are.
async fn say_goodbye(to_caller: &mut BytesToCaller, code: u16) -> Parting {
    let [high, low] = code.to_be_bytes();
    let goodbye = async {
        to_caller.write_all(&[0x88, 2, high, low]).await?;
        to_caller.flush().await?;
        to_caller.shutdown().await
    };
    match timeout(GOODBYE_TIMEOUT, goodbye).await {
        Ok(Ok(())) => Parting::Close,
        Ok(Err(_)) | Err(_) => Parting::Reset,
    }
}
