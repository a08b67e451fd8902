//! Virtual keys: what applications are told instead of a provider's own key, and what each of them may do.
//!
//! [`record`] is a key as the file has it, [`file`] that file, which the command line changes and a running Spillway
//! [follows](followed); [`table`] finds whoever shows one.

pub(crate) mod digest;
pub(crate) mod file;
pub(crate) mod followed;
pub(crate) mod litellm;
pub(crate) mod record;
pub(crate) mod summary;
pub(crate) mod table;
