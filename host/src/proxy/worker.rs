//! What each worker has for itself.

use crate::policy::Judge;
use crate::proxy::app::App;
use crate::proxy::books::Books;
use crate::runtime::heartbeat::Pulse;
use crate::upstream::Upstream;
use crate::upstream::client::Client;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What one thread has for itself: connections to upstreams, and instances of policies.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What it shares.
    pub app: Arc<App>,
    /// Its policy instances. Borrowed for the length of one call, never across an await.
    pub judge: RefCell<Judge>,
    clients: HashMap<Arc<str>, Client>,
    /// What it keeps the ledger with, if one is kept.
    pub books: Option<Books>,
    /// What can be seen of it from outside.
    pub pulse: Arc<Pulse>,
}

impl Worker {
    /// A worker without connections or instances yet.
    pub(crate) fn new(app: Arc<App>, pulse: Arc<Pulse>) -> Rc<Self> {
        let client = |upstream: &Arc<Upstream>| (Arc::clone(&upstream.name), upstream.client());
        Rc::new(Worker {
            clients: app.upstreams.values().map(client).collect(),
            judge: RefCell::new(Judge::new(app.clock)),
            books: app.ledger.as_ref().map(|ledger| Books::new(ledger.journal())),
            pulse,
            app,
        })
    }

    /// This worker's client of an upstream.
    pub(crate) fn client(&self, upstream: &Upstream) -> Client {
        match self.clients.get(&upstream.name) {
            Some(client) => client.clone(),
            // Upstreams come from the same configuration as the clients, so this is never reached.
            None => upstream.client(),
        }
    }
}
