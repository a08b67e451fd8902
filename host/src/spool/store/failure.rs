//! What an operation inside the store can fail of, before it is told to the caller.

use rusqlite::ErrorCode;

use crate::spool::error::{Bound, EnqueueError, StoreError};
use crate::spool::seal::SealError;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the lease is stale")]
    StaleLease,
    #[error("{depth} of {limit} {bound} are held")]
    Full { bound: Bound, depth: u64, limit: u64 },
    #[error("{bytes} bytes are more than {limit_bytes}")]
    TooLarge { bytes: u64, limit_bytes: u64 },
    #[error("{0}")]
    Damaged(String),
    /// Nothing is open, for a reason that was told when it was shut.
    #[error("{0}")]
    Shut(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Failure {
    /// The thread that should have answered is gone.
    pub(super) fn stopped() -> Self {
        Self::Unavailable("its thread has ended; restart Spillway and read its log".to_owned())
    }

    /// There is no room: on the disk, or within `max_page_count`.
    pub(super) fn is_no_space(&self) -> bool {
        self.has_code(ErrorCode::DiskFull)
    }

    /// The disk or the file system failed, so that the connection is not to be trusted any more.
    pub(super) fn is_io(&self) -> bool {
        self.has_code(ErrorCode::SystemIoFailure) || self.has_code(ErrorCode::CannotOpen)
    }

    /// The record that was looked at is not what was once written; others may be well.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => {
                matches!(
                    error,
                    rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::Utf8Error(..)
                        | rusqlite::Error::InvalidColumnType(..)
                ) || self.has_code(ErrorCode::DatabaseCorrupt)
                    || self.has_code(ErrorCode::NotADatabase)
            }
            Self::StaleLease | Self::Full { .. } | Self::TooLarge { .. } | Self::Shut(_) | Self::Unavailable(_) => {
                false
            }
        }
    }

    fn has_code(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(code))
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Open => Self::Damaged(error.to_string()),
            SealError::Random | SealError::Seal => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let damaged = failure.is_damage();
        match failure {
            Failure::StaleLease => Self::StaleLease,
            Failure::TooLarge { bytes, limit_bytes } => Self::TooLarge { bytes, limit_bytes },
            Failure::Damaged(what) => Self::Damaged(what),
            Failure::Shut(why) => Self::Shut(why),
            Failure::Unavailable(why) => Self::Unavailable(why),
            Failure::Full { .. } => Self::Unavailable("it is full".to_owned()),
            Failure::Sqlite(error) if damaged => Self::Damaged(error.to_string()),
            Failure::Sqlite(error) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<Failure> for EnqueueError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full { bound, depth, limit } => Self::Full { bound, depth, limit },
            Failure::TooLarge { bytes, limit_bytes } => Self::TooLarge { bytes, limit_bytes },
            Failure::Damaged(why) | Failure::Shut(why) | Failure::Unavailable(why) => Self::Unavailable(why),
            Failure::Sqlite(error) => Self::Unavailable(error.to_string()),
            Failure::StaleLease => Self::Unavailable(StoreError::StaleLease.to_string()),
        }
    }
}
