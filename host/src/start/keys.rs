//! The file of virtual keys, which is read before anybody is served, and again while Spillway serves.

use crate::config::Config;
use crate::keys::file::{KeyFile, KeyFileError};
use crate::keys::followed::{FollowedKeys, KeysLook, LOOK};
use crate::keys::record::KeyRecord;
use crate::proxy::app::App;
use std::sync::Arc;

/// Reads it for the first time, and has its keys in force. On a disk that does not answer it is read once that does;
/// until then no virtual key counts, and none goes to a provider.
///
/// # Errors
/// When it cannot be used: whatever it forbids would be allowed.
pub(super) fn open(app: &App, disk_answers: bool) -> Result<FollowedKeys, KeyFileError> {
    let file = KeyFile::at(app.config.key_file());
    if !disk_answers && app.config.keys.file.is_none() {
        app.access.keys.are_unread();
        return Ok(FollowedKeys::unread(file));
    }
    let (followed, keys) = FollowedKeys::open(file)?;
    let count = keys.len();
    take(app, keys);
    tell_of_none(&app.config, followed.file(), count);
    Ok(followed)
}

/// Has these keys in force, with what each may spend. Answers how many count no more.
fn take(app: &App, keys: Vec<KeyRecord>) -> usize {
    let revoked = app.access.keys.replace(keys);
    for key in app.callers.take_keys(&app.access.keys.all()) {
        tracing::error!(
            key = key.id(),
            "a key has limits, and they do not hold: what is spent is kept from the next start on, or with \
             ledger.enabled = true"
        );
    }
    revoked
}

fn tell_of_none(config: &Config, file: &KeyFile, count: usize) {
    if config.keys.required && count == 0 && config.server.access_key().is_none() {
        let file = file.path().display();
        tracing::warn!(
            %file,
            "keys.required is set, and there is no key: nobody is served until `spillway key new` has made one"
        );
    }
}

/// Follows it until the process ends. Reads a file, whose disk may hang, and so belongs on a thread of its own.
pub(super) async fn follow(app: Arc<App>, mut followed: FollowedKeys) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        match followed.look() {
            KeysLook::AsBefore => {}
            KeysLook::Changed(keys) => {
                let count = keys.len();
                let revoked = take(&app, keys);
                // Jobs of a key that is revoked are given up when they are looked at.
                app.spool_bell.notify_one();
                tracing::info!(keys = count, revoked, "the file of keys has changed, and is in force");
                tell_of_none(&app.config, followed.file(), count);
            }
            KeysLook::Lost(why) => {
                tracing::error!(why, "the file of keys cannot be used; the last keys stay in force");
            }
            KeysLook::Back => tracing::info!("the file of keys can be used again, and is what it was"),
        }
    }
}
