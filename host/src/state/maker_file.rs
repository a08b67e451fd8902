//! What outlives a restart besides the spool: who has made what lives at a provider.
//!
//! A request that names an answer, a file or a signature must reach its maker also behind a restart. No name and no
//! signature stands here, only their fingerprints, which are no way back to them.

use crate::runtime::fingerprint::FingerprintKey;
use crate::state::json_file;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name, in the data folder.
const FILE: &str = "makers.json";
/// The layout of the file. Another one is not read.
const VERSION: u32 = 1;
/// What one thing takes before it is written as hexadecimal digits: two numbers of eight bytes and three of two.
const THING_BYTES: usize = 22;
/// What it takes in the file. The most that are remembered, 100,000, take 4.4 MB.
const THING_BYTES_KEPT: u64 = 2 * THING_BYTES as u64;
/// Largest file read: about twice what the most that are remembered take.
const FILE_BYTES_MAX: u64 = 9 << 20;
/// How long what was made is gathered at least before it is written. A process that is killed within it forgets it.
const GATHER_MIN: Duration = Duration::from_secs(5);
/// What is written in a second at most, on average, since all is written anew each time: a disk is not worn out by it,
/// and the largest file is written every 44 seconds.
const BYTES_PER_SECOND_MAX: u64 = 100_000;

/// By whom something was made, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Which of the upstreams has made it: a place in a list of their names that lies elsewhere.
    pub upstream: u16,
    /// The fingerprint of the credential that it was made with.
    pub credential: u64,
    /// A fingerprint of the model that has made it.
    pub model: u16,
    /// When that was last heard of, in days since 1970 by steady time.
    pub day: u16,
}

/// All that is remembered of what was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The names that [`Made::upstream`] counts.
    pub upstreams: Vec<String>,
    /// Each behind the fingerprint of its name, those first that are the first to be forgotten.
    pub made: Vec<(u64, Made)>,
}

/// Where it is kept who has made what.
#[derive(Debug)]
pub(crate) struct MakerFile {
    path: Option<PathBuf>,
    stored: Option<Stored>,
    /// How often something had changed when it was last written.
    written_changes: u64,
    /// Whether there should be a file.
    is_kept: bool,
    /// Whether the last write failed.
    failed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// By which names and credentials are known here.
    fingerprint_key: FingerprintKey,
    upstreams: Vec<String>,
    /// In hexadecimal digits, as many for each thing: see [`digits`].
    made: String,
}

impl MakerFile {
    /// Reads what the last process left in `folder`. Without a folder nothing is read or written.
    ///
    /// A file that cannot be read is no reason not to start: nothing is remembered then, and the log says why.
    pub(crate) fn open(folder: Option<&Path>) -> MakerFile {
        let path = folder.map(|folder| folder.join(FILE));
        let stored = path.as_deref().and_then(|path| {
            json_file::read_layout(path, FILE_BYTES_MAX, VERSION).unwrap_or_else(|error| not_known(path, &error))
        });
        MakerFile { path, is_kept: stored.is_some(), stored, written_changes: 0, failed: false }
    }

    /// The key that the last process has made fingerprints with, if that is known here.
    pub(crate) fn key(&self) -> Option<&FingerprintKey> {
        self.stored.as_ref().map(|stored| &stored.fingerprint_key)
    }

    /// What was read, once. Fingerprints of another key than ours say nothing.
    pub(crate) fn take(&mut self, key: &FingerprintKey) -> Remembered {
        let (Some(stored), Some(path)) = (self.stored.take(), &self.path) else { return Remembered::default() };
        let read = if stored.fingerprint_key == *key {
            things(&stored.made)
        } else {
            Err(io::Error::other("its fingerprints were made with another key"))
        };
        let made = read.map_or_else(|error| not_known(path, &error), Some);
        Remembered { upstreams: stored.upstreams, made: made.unwrap_or_default() }
    }

    /// Writes what `remembered` answers, if something has changed: `changes` counts how often it has, in this process.
    /// Answers how long the next time is to be waited for.
    pub(crate) fn save(
        &mut self,
        key: &FingerprintKey,
        changes: u64,
        remembered: impl FnOnce() -> Remembered,
    ) -> Duration {
        let Some(path) = &self.path else { return GATHER_MIN };
        // A file that somebody deleted is written anew.
        if changes == self.written_changes && (!self.is_kept || path.exists()) {
            return GATHER_MIN;
        }
        let Remembered { upstreams, made } = remembered();
        let stored = Stored { version: VERSION, fingerprint_key: key.clone(), upstreams, made: digits(&made) };
        match json_file::write(path, &stored) {
            Ok(()) => (self.written_changes, self.is_kept, self.failed) = (changes, true, false),
            // Said once, and tried again every time.
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                let path = path.display();
                tracing::error!(%path, %error, "who has made what could not be stored (which target holds which \
                                                response or file); a restart would forget it");
            }
            Err(_) => {}
        }
        gather_after(made.len())
    }
}

/// How long is waited behind a write of so many things.
fn gather_after(things: usize) -> Duration {
    let bytes = THING_BYTES_KEPT.saturating_mul(u64::try_from(things).unwrap_or(u64::MAX));
    GATHER_MIN.max(Duration::from_secs(bytes / BYTES_PER_SECOND_MAX))
}

fn not_known<T>(path: &Path, error: &io::Error) -> Option<T> {
    let path = path.display();
    tracing::warn!(%path, %error, "who has made what is not known (which target holds which response or file): a \
                                   request that names one goes to the first target, or where its conversation is");
    None
}

fn digits(made: &[(u64, Made)]) -> String {
    let mut bytes = Vec::with_capacity(made.len().saturating_mul(THING_BYTES));
    for (name, Made { upstream, credential, model, day }) in made {
        bytes.extend(name.to_be_bytes());
        bytes.extend(credential.to_be_bytes());
        bytes.extend(upstream.to_be_bytes());
        bytes.extend(model.to_be_bytes());
        bytes.extend(day.to_be_bytes());
    }
    hex::encode(bytes)
}

/// # Errors
/// When it is not what [`digits`] has written.
fn things(digits: &str) -> io::Result<Vec<(u64, Made)>> {
    let bytes = hex::decode(digits).map_err(|error| io::Error::other(error.to_string()))?;
    let (things, []) = bytes.as_chunks::<THING_BYTES>() else {
        return Err(io::Error::other("it ends in the midst of something"));
    };
    Ok(things.iter().map(thing).collect())
}

fn thing(bytes: &[u8; THING_BYTES]) -> (u64, Made) {
    let long = |from: usize| bytes[from..from + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let short = |from: usize| u16::from_be_bytes([bytes[from], bytes[from + 1]]);
    (long(0), Made { credential: long(8), upstream: short(16), model: short(18), day: short(20) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn key(byte: u8) -> FingerprintKey {
        FingerprintKey::from_bytes([byte; 32])
    }

    fn two_things() -> Remembered {
        let made = |upstream, credential| Made { upstream, credential, model: 7, day: 20_800 };
        Remembered {
            upstreams: vec!["azure".into(), "openai".into()],
            made: vec![(1, made(0, u64::MAX)), (0x0102_0304_0506_0708, made(1, 7))],
        }
    }

    /// What is kept in the file of a folder, and the key it was made with.
    fn kept(folder: &Path, key: &FingerprintKey) -> Remembered {
        MakerFile::open(Some(folder)).take(key)
    }

    #[test]
    fn another_process_with_the_same_key_reads_what_was_written_and_one_with_another_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        MakerFile::open(Some(folder.path())).save(&key(1), 1, two_things);
        assert_eq!(kept(folder.path(), &key(1)), two_things());
        assert_eq!(kept(folder.path(), &key(2)).made, []);
        let file = MakerFile::open(Some(folder.path()));
        assert!(file.key().is_some_and(|kept| *kept == key(1)), "a process that has lost its key finds it here");
        let text = fs::read_to_string(folder.path().join(FILE)).expect("a file");
        assert!(text.contains("0000000000000001ffffffffffffffff000000075140"), "{text}");
    }

    #[test]
    fn nothing_is_written_without_a_change_unless_somebody_has_deleted_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let unasked = || -> Remembered { unreachable!("nothing has changed") };
        let mut file = MakerFile::open(Some(folder.path()));
        assert_eq!(file.save(&key(1), 0, unasked), GATHER_MIN);
        assert!(!path.exists(), "nothing was ever made");
        file.save(&key(1), 1, two_things);
        file.save(&key(1), 1, unasked);
        fs::remove_file(&path).expect("deleted");
        file.save(&key(1), 1, two_things);
        assert_eq!(kept(folder.path(), &key(1)), two_things());
        MakerFile::open(None).save(&key(1), 1, unasked);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again_and_one_that_cannot_be_read_is_as_good_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing");
        let mut file = MakerFile::open(Some(&missing));
        file.save(&key(1), 1, two_things);
        fs::create_dir(&missing).expect("a folder");
        file.save(&key(1), 1, two_things);
        assert_eq!(kept(&missing, &key(1)), two_things());

        let whole = fs::read_to_string(missing.join(FILE)).expect("a file");
        let later_layout = whole.replace("\"version\": 1", "\"version\": 2");
        let no_digits = whole.replace("00075140", "0007514x");
        let too_short = whole.replace("00075140", "000751");
        let too_large = format!("{whole}{}", " ".repeat(usize::try_from(FILE_BYTES_MAX).expect("few")));
        for left in ["", "{ nonsense", &whole[..whole.len() / 2], &later_layout, &no_digits, &too_short, &too_large] {
            assert_ne!(left, whole);
            fs::write(missing.join(FILE), left).expect("written");
            let shown = &left[..left.len().min(300)];
            assert_eq!(kept(&missing, &key(1)).made, [], "{shown}");
        }
    }

    #[test]
    fn the_most_that_are_remembered_have_room_in_a_file_that_is_read_and_are_written_seldom() {
        let made = Made { upstream: 0, credential: u64::MAX, model: 7, day: 20_800 };
        let bytes = u64::try_from(digits(&vec![(u64::MAX, made); 100_000]).len()).expect("few");
        assert_eq!(bytes, 100_000 * THING_BYTES_KEPT);
        assert!(2 * bytes < FILE_BYTES_MAX);
        for (things, gather_s) in [(0, 5), (1_000, 5), (11_000, 5), (15_000, 6), (100_000, 44)] {
            assert_eq!(gather_after(things), Duration::from_secs(gather_s), "{things}");
        }
    }
}
