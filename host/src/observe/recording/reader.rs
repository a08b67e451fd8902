//! Reading recorded requests back, line by line.

use super::arrival::{BEGINNING, Unserved, UnservedLine};
use super::entry::{Entry, Recorded};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Longest line read: a recorded body has 8 KiB and the head of a response 128 KiB at most, each byte perhaps as six.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A recorded line.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A judged attempt.
    Attempt(Box<Recorded>),
    /// A request that had none.
    Unserved(Unserved),
}

impl Line {
    fn parse(line: &[u8]) -> Result<Line, String> {
        match line.starts_with(BEGINNING) {
            true => UnservedLine::parse(line).map(Line::Unserved),
            false => Entry::parse(line).map(|recorded| Line::Attempt(Box::new(recorded))),
        }
    }
}

/// Hands over each line of a file with its number, or what is wrong with it. Empty lines are passed over.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read(path: &Path, mut then: impl FnMut(u64, Result<Line, String>)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let is_whole = line.ends_with(b"\n") || (read as u64) < LINE_BYTES_MAX;
        if !is_whole {
            reader.skip_until(b'\n')?;
        }
        let parsed = if is_whole { Line::parse(&line) } else { Err("it is longer than any line of ours".to_owned()) };
        match parsed {
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            parsed => then(number, parsed),
        }
    }
    Ok(())
}
