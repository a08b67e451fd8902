//! The operator's files of prices: reading them, and following them while serving.

use super::litellm::{self, Table};
use super::own::{self, Mistake, Own};
use crate::runtime::file_identity::Stamp;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the operator's prices stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriceFiles {
    /// His own.
    pub(crate) own: Option<PathBuf>,
    /// One of LiteLLM's form.
    pub(crate) litellm: Option<PathBuf>,
}

/// What was read of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(super) own: Option<(PathBuf, Arc<Own>)>,
    pub(super) litellm: Option<(PathBuf, Arc<Table>)>,
}

/// Why a file of prices is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PriceMistakes {
    file: PathBuf,
    mistakes: Vec<Mistake>,
    /// What the system says, if it could not be read at all.
    unreadable: Option<String>,
}

impl fmt::Display for PriceMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Mistakes that are told. One of thousands is enough to see what is wrong with a file.
        const TOLD_MAX: usize = 10;
        let file = self.file.display();
        if let Some(why) = &self.unreadable {
            return write!(f, "cannot read {file}: {why}");
        }
        let told = self.mistakes.iter().take(TOLD_MAX).map(|one| format!("line {}: {}", one.line, one.message));
        write!(f, "{file}: {}", told.collect::<Vec<_>>().join("; "))?;
        match self.mistakes.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl PriceFiles {
    /// Whether there are any.
    pub(crate) fn are_any(&self) -> bool {
        self.own.is_some() || self.litellm.is_some()
    }

    /// Reads them.
    ///
    /// # Errors
    /// When one of them cannot be read or has mistakes, all of which are listed.
    pub(crate) fn read(&self) -> Result<Read, PriceMistakes> {
        Ok(Read {
            own: self.own.as_deref().map(read_own).transpose()?,
            litellm: self.litellm.as_deref().map(read_litellm).transpose()?,
        })
    }
}

fn read_own(file: &Path) -> Result<(PathBuf, Arc<Own>), PriceMistakes> {
    let text = text_of(file, own::FILE_BYTES_MAX)?;
    let mistakes = |mistakes| PriceMistakes { file: file.to_owned(), mistakes, unreadable: None };
    Ok((file.to_owned(), Arc::new(Own::read(&text).map_err(mistakes)?)))
}

fn read_litellm(file: &Path) -> Result<(PathBuf, Arc<Table>), PriceMistakes> {
    let text = text_of(file, litellm::FILE_BYTES_MAX)?;
    let mistakes = |(line, message)| PriceMistakes {
        file: file.to_owned(),
        mistakes: vec![Mistake { line, message }],
        unreadable: None,
    };
    Ok((file.to_owned(), Arc::new(Table::read(&text).map_err(mistakes)?)))
}

fn text_of(file: &Path, bytes_max: u64) -> Result<String, PriceMistakes> {
    let read = || {
        let mut text = String::new();
        // One byte more tells whether it is too large.
        File::open(file)?.take(bytes_max + 1).read_to_string(&mut text)?;
        match text.len() as u64 > bytes_max {
            true => Err(io::Error::other(format!("it has more than {} MiB", bytes_max >> 20))),
            false => Ok(text),
        }
    };
    read().map_err(|error| PriceMistakes {
        file: file.to_owned(),
        mistakes: Vec::new(),
        unreadable: Some(error.to_string()),
    })
}

/// The files while Spillway serves.
#[derive(Debug)]
pub(crate) struct FollowedPrices {
    files: PriceFiles,
    /// The files as they were when they were last read.
    read: [Option<Stamp>; 2],
    /// The files as the last look found them, where they have changed since.
    seen: Option<[Option<Stamp>; 2]>,
    /// What was last told of them, if they could not be read since.
    told: Option<PriceMistakes>,
}

/// What a look has found.
#[derive(Debug)]
pub(crate) enum PriceLook {
    /// Nothing to tell.
    AsBefore,
    /// Other prices, or the same in other files.
    Changed(Read),
    /// They cannot be used. The last ones stay in use.
    Bad(PriceMistakes),
}

impl FollowedPrices {
    /// Follows these files, which are read by now; `None` where there are none.
    pub(crate) fn of(files: &PriceFiles) -> Option<FollowedPrices> {
        files.are_any().then(|| FollowedPrices { read: stamps(files), files: files.clone(), seen: None, told: None })
    }

    /// Looks at them. What differs counts once two looks in a row agree on it, since a file may be looked at while it is
    /// written. Both are read, since it takes some milliseconds and happens seldom.
    pub(crate) fn look(&mut self) -> PriceLook {
        let found = stamps(&self.files);
        if found == self.read {
            self.seen = None;
            return PriceLook::AsBefore;
        }
        if self.seen != Some(found) {
            self.seen = Some(found);
            return PriceLook::AsBefore;
        }
        let read = self.files.read();
        // What was read while it was being written to may be anything.
        if stamps(&self.files) != found {
            return PriceLook::AsBefore;
        }
        match read {
            Ok(read) => {
                (self.read, self.seen, self.told) = (found, None, None);
                PriceLook::Changed(read)
            }
            Err(mistakes) if self.told.as_ref() == Some(&mistakes) => PriceLook::AsBefore,
            Err(mistakes) => {
                self.told = Some(mistakes.clone());
                PriceLook::Bad(mistakes)
            }
        }
    }
}

fn stamps(files: &PriceFiles) -> [Option<Stamp>; 2] {
    [&files.own, &files.litellm].map(|file| Some(Stamp::of(&fs::metadata(file.as_deref()?).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: u32) -> String {
        format!("[[price]]\nmodel = \"m\"\ninput = {input}\noutput = 1\n")
    }

    #[test]
    fn a_change_counts_once_two_looks_agree_on_it_and_a_bad_file_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("prices.toml");
        fs::write(&own, price(1)).expect("written");
        let files = PriceFiles { own: Some(own.clone()), litellm: None };
        files.read().expect("prices");
        let mut followed = FollowedPrices::of(&files).expect("a file is followed");
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        fs::write(&own, price(20)).expect("written");
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        assert!(matches!(followed.look(), PriceLook::Changed(_)));
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        fs::write(&own, "[[price]]\nmodel = 7\n").expect("written");
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        let PriceLook::Bad(mistakes) = followed.look() else { panic!("it is bad") };
        assert!(mistakes.to_string().contains("line 2: model: expected a text"), "{mistakes}");
        assert!(matches!(followed.look(), PriceLook::AsBefore), "told once");
        fs::remove_file(&own).expect("removed");
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        let PriceLook::Bad(mistakes) = followed.look() else { panic!("it is gone") };
        assert!(mistakes.to_string().starts_with("cannot read "), "{mistakes}");
        fs::write(&own, price(300)).expect("written");
        assert!(matches!(followed.look(), PriceLook::AsBefore));
        assert!(matches!(followed.look(), PriceLook::Changed(_)));
        assert!(FollowedPrices::of(&PriceFiles::default()).is_none());
    }

    #[test]
    fn a_file_that_is_no_table_is_a_mistake_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prices.json");
        let files = PriceFiles { own: None, litellm: Some(file.clone()) };
        for (text, words) in [("{\n\"a\": }", "line 2: no JSON object"), ("{}", "none of its members")] {
            fs::write(&file, text).expect("written");
            assert!(files.read().expect_err(text).to_string().contains(words), "{text}");
        }
    }
}
