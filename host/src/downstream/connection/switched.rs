//! A caller's connection that speaks another protocol from here on: hyper has no part in it any more.

use crate::downstream::connection::read_unwanted;
use crate::downstream::connection::socket::{Line, Socket};
use crate::proxy::body::{Parting, Switching};
use crate::runtime::heartbeat::InHand;
use crate::runtime::upload::UnderWay;
use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Where a request leaves what its connection becomes.
pub(super) type Place = Rc<Cell<Option<Switched>>>;

/// What a connection has become. The request that it began with is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Switched {
    relay: Box<dyn Switching>,
    _under_way: Arc<UnderWay>,
    in_hand: Rc<InHand>,
}

impl Switched {
    pub(super) fn new(relay: Box<dyn Switching>, under_way: Arc<UnderWay>, in_hand: Rc<InHand>) -> Switched {
        Switched { relay, _under_way: under_way, in_hand }
    }

    /// Relays until the end, beginning with what has come ahead of it.
    pub(super) async fn relay(self, line: &Rc<Line>, ahead: Bytes) {
        let Switched { relay, _under_way, in_hand } = self;
        let socket = || Box::new(Socket(Rc::clone(line)));
        match in_hand.over(relay.run(socket(), socket(), ahead)).await {
            Parting::Reset => line.reset_on_close(),
            Parting::Close if line.has_ended() => {}
            Parting::Close => read_unwanted(line).await,
        }
    }
}
