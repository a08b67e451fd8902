//! A section of the file, declared once: the struct that the rest of Spillway uses, its keys with their kinds, defaults
//! and sentences, and what parsing, `spillway config` and the reference make of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use toml::Value;

/// Declares a section: the struct, and each of its keys as
///
/// ```text
/// /// What it says, for the reference.
/// name: type = default, kind;
/// ```
///
/// Where the default is not the same everywhere, `, shown as "words"` says it in the reference. The kind is a
/// [`Kind`](super::kind::Kind). Why a default is what it is stands in a plain comment beside it.
///
/// After the keys come the `tables` within the section, which its own function reads, since what they may hold depends
/// on the keys around them. `keys in force` names a function that says of each key whether it means anything, beside
/// the values of the others; of those that do not, `spillway config show` is silent.
///
/// What is made of it: `fresh`, the defaults; `take`, which takes what a file says, and notes what is wrong with it;
/// and [`Table`](super::section::Table). Rules between keys are plain functions of their section.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        pub struct $section:ident {
            $(
                $(#[doc = $key_doc:literal])+
                $key:ident: $type:ty = $default:expr, $kind:expr $(, shown as $words:literal)?;
            )*
        }
        $(tables {
            $( $(#[doc = $table_doc:literal])+ $table:ident: $table_type:ty; )+
        })?
        $(keys in force $in_force:path;)?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub struct $section {
            $( $(#[doc = $key_doc])+ pub $key: $type, )*
            $($( $(#[doc = $table_doc])+ pub $table: $table_type, )+)?
        }

        const _: () = {
            use $crate::config::kind::Kind;
            use $crate::config::reader::Section;
            use $crate::config::section::{Description, Key, Table, Tables, paragraphs, section};
            use std::borrow::Cow;
            use std::path::Path;

            impl $section {
                /// The defaults, of a file in this folder.
                pub(in crate::config) fn fresh(folder: &Path) -> Self {
                    Self {
                        $( $key: Kind::<$type>::placed(&$kind, $default, folder), )*
                        $($( $table: <$table_type>::fresh(folder), )+)?
                    }
                }

                /// Takes what the section says of these keys, and notes what is wrong with it.
                fn take(&mut self, section: &Section<'_>) {
                    $(
                        let kind = $kind;
                        if let Some(value) = Kind::<$type>::read(&kind, section, stringify!($key)) {
                            section.taken(stringify!($key));
                            self.$key = Kind::<$type>::placed(&kind, value, section.folder());
                        }
                    )*
                }
            }

            impl Table for $section {
                fn describe() -> Description {
                    let keys = vec![$({
                        let (kind, default): (_, $type) = ($kind, $default);
                        Key {
                            name: stringify!($key),
                            doc: paragraphs(concat!($($key_doc, "\n"),+)),
                            kind: Kind::<$type>::words(&kind),
                            schema: Kind::<$type>::schema(&kind),
                            default: Kind::<$type>::write(&kind, &default),
                            default_words: None$(.or(Some($words)))?,
                        }
                    }),*];
                    let tables = vec![$($( (stringify!($table), <$table_type>::describe()), )+)?];
                    Description { doc: paragraphs(concat!($($doc, "\n"),+)), keys, tables: Tables::These(tables) }
                }

                fn entries(&self) -> Vec<(Cow<'_, str>, Option<toml::Value>)> {
                    let is_in_force: fn(&Self, &str) -> bool = section!(@in_force $($in_force)?);
                    let entries: Vec<(&'static str, Option<toml::Value>)> =
                        vec![$( (stringify!($key), Kind::<$type>::write(&$kind, &self.$key)) ),*];
                    let in_force = entries.into_iter().filter(|(key, _)| is_in_force(self, key));
                    in_force.map(|(key, value)| (key.into(), value)).collect()
                }

                fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
                    vec![$($( (stringify!($table).into(), &self.$table), )+)?]
                }
            }
        };
    };
    (@in_force) => { |_, _| true };
    (@in_force $in_force:path) => { $in_force };
}
pub(in crate::config) use section;

/// A table of the configuration, with the values that are in force.
pub(in crate::config) trait Table {
    /// What may stand in it.
    fn describe() -> Description
    where
        Self: Sized;

    /// Its keys and their values as they are written; `None` for what is said by leaving the key out.
    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)>;

    /// The tables within it.
    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)>;
}

/// What may stand in a table.
pub(in crate::config) struct Description {
    /// What it is about, in paragraphs.
    pub(in crate::config) doc: String,
    pub(in crate::config) keys: Vec<Key>,
    pub(in crate::config) tables: Tables,
}

/// What tables there may be within a table.
pub(in crate::config) enum Tables {
    /// These.
    These(Vec<(&'static str, Description)>),
    /// Any number of such ones, named by the operator.
    Named(Box<Description>),
    /// Whatever somebody else understands, and keys of that kind.
    Anything,
}

/// A key of a table.
pub(in crate::config) struct Key {
    pub(in crate::config) name: &'static str,
    /// What it says.
    pub(in crate::config) doc: String,
    /// What it may hold, in words.
    pub(in crate::config) kind: String,
    /// The same as JSON Schema.
    pub(in crate::config) schema: serde_json::Value,
    /// Its default as it is written; `None` for what is said by leaving it out.
    pub(in crate::config) default: Option<Value>,
    /// What to say in place of the default, where that is not the same everywhere.
    pub(in crate::config) default_words: Option<&'static str>,
}

/// Tables that are named by the operator.
impl<T: Table> Table for BTreeMap<String, T> {
    fn describe() -> Description {
        Description { doc: String::new(), keys: Vec::new(), tables: Tables::Named(Box::new(T::describe())) }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)> {
        Vec::new()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.iter().map(|(name, table)| (name.into(), table as &dyn Table)).collect()
    }
}

/// The text of doc comments, in which each paragraph is one line.
pub(in crate::config) fn paragraphs(doc: &str) -> String {
    let mut text = String::new();
    for line in doc.lines().map(str::trim) {
        match line {
            "" => text.push_str("\n\n"),
            line if text.is_empty() || text.ends_with('\n') => text.push_str(line),
            line => {
                text.push(' ');
                text.push_str(line);
            }
        }
    }
    text.trim().to_owned()
}
