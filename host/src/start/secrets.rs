//! Keys in files, which are read again while Spillway serves.

use crate::config::{FollowedSecret, Look, Secret, Server};
use crate::proxy::app::App;
use crate::upstream::Upstream;
use std::sync::Arc;
use std::time::Duration;

/// How often files of keys are looked at. A change counts at the second look that finds it.
const LOOK: Duration = Duration::from_secs(1);

/// A key that is followed, and whose it is.
#[derive(Debug)]
pub(super) struct Followed {
    secret: FollowedSecret,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    /// An upstream's, by its place among that upstream's keys.
    Upstream(Arc<Upstream>, usize),
    /// The key that callers show.
    Callers,
}

/// All keys that stand in files.
pub(super) fn in_files(app: &App) -> Vec<Followed> {
    let of_upstream = |upstream: &Arc<Upstream>| {
        let keys = upstream.config.api_keys().enumerate();
        let followed = |(index, named)| {
            let owner = Owner::Upstream(Arc::clone(upstream), index);
            Some(Followed { secret: FollowedSecret::of(named)?, owner })
        };
        keys.filter_map(followed).collect::<Vec<_>>()
    };
    let access = app.config.server.access_key().and_then(FollowedSecret::of);
    let access = access.map(|secret| Followed { secret, owner: Owner::Callers });
    app.upstreams.values().flat_map(of_upstream).chain(access).collect()
}

/// Follows them until the process ends. Reads files, whose disks may hang, and so belongs on a thread of its own.
pub(super) async fn follow(app: Arc<App>, mut all: Vec<Followed>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        for followed in &mut all {
            followed.look(&app);
        }
    }
}

impl Followed {
    fn look(&mut self, app: &App) {
        let look = self.secret.look();
        let key = self.secret.source();
        let of = match &self.owner {
            Owner::Upstream(upstream, _) => &*upstream.name,
            Owner::Callers => "callers",
        };
        match look {
            Look::AsBefore => {}
            Look::Changed(secret) => match self.owner.take(&secret, app) {
                Ok(()) => tracing::info!(of, %key, "a key has changed, and is in use"),
                Err(why) => {
                    tracing::error!(of, %key, why, "a key has changed and is not taken; the last one stays in use")
                }
            },
            Look::Lost(why) => tracing::error!(of, why, "a key can no longer be read; the last one stays in use"),
            Look::Back => tracing::info!(of, %key, "a key can be read again, and is the one in use"),
        }
    }
}

impl Owner {
    fn take(&self, secret: &Secret, app: &App) -> Result<(), String> {
        match self {
            Owner::Upstream(upstream, index) => upstream.keys.replace(*index, secret),
            Owner::Callers => {
                Server::check_access_key(secret)?;
                app.access.replace(secret);
            }
        }
        Ok(())
    }
}
