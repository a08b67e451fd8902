//! Labels that callers put on requests, to see what pays for what: few keys, and a bounded number of values of each.

use crate::config::{LabelsConfig, is_label_key};
use crate::dialect::headers::LABEL_HEADER;
use crate::runtime::sync::{Mutex, lock};
use arc_swap::ArcSwap;
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use crate::config::KEYS_MAX;

/// Longest value, in bytes. A longer one is `other`.
const VALUE_BYTES_MAX: usize = 64;
/// Most of a header that is read, in bytes: more than all keys with the longest values take.
const HEADER_BYTES_MAX: usize = KEYS_MAX * (crate::config::KEY_BYTES_MAX + VALUE_BYTES_MAX + 4);
/// Most labels, each a set of keys with their values, that are told apart. Beyond it a new one is [`OTHER`] as a whole,
/// so that whoever counts by label has a bound, too.
const LABELS_MAX: usize = 10_000;
/// What stands for each value that is not told apart.
pub(crate) const OTHER: &str = "other";

/// The number of no value, and that of [`OTHER`]; those that are told apart follow.
const NONE: u16 = 0;
const OTHER_VALUE: u16 = 1;

/// What a request is labelled with: for each key that is told apart the number of its value. Equal numbers mean equal
/// values for as long as the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Label([u16; KEYS_MAX]);

impl Label {
    /// Whether nothing is said.
    pub(crate) fn is_empty(self) -> bool {
        self == Label::default()
    }
}

/// The keys and values that are told apart. They are never forgotten, so that a [`Label`] means the same for ever.
#[derive(Debug)]
pub(crate) struct Labels {
    known: ArcSwap<Known>,
    /// Whoever adds something to what is known waits here.
    adding: Mutex<()>,
    /// Labels as they are written. It is held for one look, and only for requests with a label.
    written: Mutex<HashMap<Label, Arc<str>>>,
    other: Arc<str>,
    /// Keys that are told apart, and values of each.
    keys_max: usize,
    values_max: usize,
    malformed: AtomicU64,
    keys_left_out: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    name: Arc<str>,
    numbers: HashMap<Arc<str>, u16>,
    /// By their numbers, those that are not told apart first.
    values: Vec<Arc<str>>,
}

impl Key {
    fn new(name: &str) -> Key {
        Key { name: Arc::from(name), numbers: HashMap::new(), values: vec![Arc::from(""), Arc::from(OTHER)] }
    }
}

/// What was wrong with labels so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelTroubles {
    /// Pairs that are no `key=value`, and headers that are no text or too long.
    pub malformed: u64,
    /// Pairs whose key is none of those that are told apart.
    pub keys_left_out: u64,
}

impl Labels {
    /// With these bounds, and these keys if any are listed.
    pub(crate) fn new(config: &LabelsConfig) -> Labels {
        let keys: Vec<Key> = config.keys.iter().take(KEYS_MAX).map(|name| Key::new(name)).collect();
        Labels {
            keys_max: if keys.is_empty() { config.max_keys.min(KEYS_MAX) } else { keys.len() },
            values_max: config.max_values,
            known: ArcSwap::from_pointee(Known { keys }),
            adding: Mutex::new(()),
            written: Mutex::default(),
            other: Arc::from(OTHER),
            malformed: AtomicU64::new(0),
            keys_left_out: AtomicU64::new(0),
        }
    }

    /// What a request with these headers is labelled with. What is wrong with a label is left out and counted, and never
    /// a reason to refuse. Of a key that stands twice the first value counts.
    pub(crate) fn intern(&self, headers: &HeaderMap) -> Label {
        let mut label = Label::default();
        for value in headers.get_all(LABEL_HEADER) {
            match value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX) {
                Some(text) => text.split(',').for_each(|pair| self.add(&mut label, pair.trim())),
                None => count(&self.malformed),
            }
        }
        label
    }

    fn add(&self, label: &mut Label, pair: &str) {
        if pair.is_empty() {
            return;
        }
        let pair = pair.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let Some((key, value)) = pair.filter(|(key, value)| is_label_key(key) && !value.is_empty()) else {
            return count(&self.malformed);
        };
        let known = self.known.load();
        let found = known.find(key, value);
        let is_complete = match found {
            (Some(_), Some(_)) => true,
            (Some(place), None) => known.keys[place].values.len() >= self.values_max + 2,
            (None, _) => known.keys.len() >= self.keys_max,
        };
        let (place, number) = if is_complete { found } else { self.learn(key, value) };
        match place.and_then(|place| label.0.get_mut(place)) {
            Some(place) if *place == NONE => *place = number.unwrap_or(OTHER_VALUE),
            Some(_) => {}
            None => count(&self.keys_left_out),
        }
    }

    /// Adds what is new, as far as there is room for it.
    fn learn(&self, key: &str, value: &str) -> (Option<usize>, Option<u16>) {
        let _adding = lock(&self.adding);
        let mut known = Known::clone(&self.known.load());
        let place = known.keys.iter().position(|known| *known.name == *key);
        let Some(place) = place.or_else(|| (known.keys.len() < self.keys_max).then_some(known.keys.len())) else {
            return (None, None);
        };
        if place == known.keys.len() {
            known.keys.push(Key::new(key));
        }
        let Key { numbers, values, .. } = &mut known.keys[place];
        let is_told_apart = value.len() <= VALUE_BYTES_MAX && value != OTHER;
        if is_told_apart && !numbers.contains_key(value) && values.len() < self.values_max + 2 {
            let value: Arc<str> = Arc::from(value);
            let number = u16::try_from(values.len()).unwrap_or(OTHER_VALUE);
            numbers.insert(Arc::clone(&value), number);
            values.push(value);
        }
        let found = known.find(key, value);
        self.known.store(Arc::new(known));
        found
    }

    /// The pairs of a label, sorted by their keys: in which order keys came is not the same after the next start.
    pub(crate) fn pairs(&self, label: Label) -> Vec<(Arc<str>, Arc<str>)> {
        let known = self.known.load();
        let pairs = known.keys.iter().zip(label.0).filter(|(_, number)| *number != NONE);
        let mut pairs: Vec<_> = pairs
            .filter_map(|(key, number)| Some((Arc::clone(&key.name), key.values.get(usize::from(number))?.clone())))
            .collect();
        pairs.sort_unstable();
        pairs
    }

    /// A label as it is written: `feature=search,prompt=v12`; empty where nothing is said. [`OTHER`] once there are
    /// more than are told apart.
    pub(crate) fn text(&self, label: Label) -> Arc<str> {
        if label.is_empty() {
            return Arc::default();
        }
        let mut written = lock(&self.written);
        if let Some(text) = written.get(&label) {
            return Arc::clone(text);
        }
        if written.len() >= LABELS_MAX {
            return Arc::clone(&self.other);
        }
        let pairs = self.pairs(label);
        let text = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        let text: Arc<str> = Arc::from(text);
        written.insert(label, Arc::clone(&text));
        text
    }

    /// What was wrong with labels so far.
    pub(crate) fn troubles(&self) -> LabelTroubles {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LabelTroubles { malformed: of(&self.malformed), keys_left_out: of(&self.keys_left_out) }
    }
}

impl Known {
    fn find(&self, key: &str, value: &str) -> (Option<usize>, Option<u16>) {
        let place = self.keys.iter().position(|known| *known.name == *key);
        let is_other = value.len() > VALUE_BYTES_MAX || value == OTHER;
        let number = match place {
            Some(_) if is_other => Some(OTHER_VALUE),
            Some(place) => self.keys[place].numbers.get(value).copied(),
            None => None,
        };
        (place, number)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
