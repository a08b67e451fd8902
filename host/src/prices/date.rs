//! Days, by the calendar of UTC: prices change at midnight.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A day, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Since the first of January 1970.
    days: u32,
}

impl Date {
    /// The day of an instant. Before 1970 it is the first day that there is.
    pub fn of(time: SystemTime) -> Date {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Date { days: u32::try_from(since.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX) }
    }

    /// How many days lie between an earlier day and this one.
    pub fn days_since(self, earlier: Date) -> u32 {
        self.days.saturating_sub(earlier.days)
    }

    /// Whether prices of this day may well be wrong by another: providers change theirs every few months.
    pub fn is_old(self, today: Date) -> bool {
        const OLD_DAYS: u32 = 180;
        today.days_since(self) >= OLD_DAYS
    }

    fn midnight(self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(DAY.checked_mul(self.days)?)
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Date, String> {
        let midnight = humantime::parse_rfc3339(&format!("{text}T00:00:00Z"));
        midnight.map(Date::of).map_err(|_| format!("expected a day, such as \"2026-10-01\", found \"{text}\""))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years beyond those that can be written are nobody's.
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let midnight = self.midnight().filter(|midnight| *midnight <= last).unwrap_or(last);
        let written = humantime::format_rfc3339_seconds(midnight).to_string();
        f.write_str(written.get(..10).unwrap_or(&written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for text in ["1970-01-01", "2024-02-29", "2026-11-30", "2027-01-01", "9999-12-31"] {
            let date: Date = text.parse().expect("a day");
            assert_eq!(date.to_string(), text);
        }
        for text in ["", "2026-02-30", "2026-1-1", "1.1.2026", "2026-01-01T00:00:00Z", "1969-12-31"] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let day: Date = "2026-11-30".parse().expect("a day");
        let at = |text: &str| Date::of(humantime::parse_rfc3339(text).expect("a time"));
        assert_eq!((at("2026-11-30T00:00:00Z"), at("2026-11-30T23:59:59Z")), (day, day));
        assert_eq!(at("2026-12-01T00:00:00Z").days_since(day), 1);
        assert_eq!(day.days_since(at("2026-12-01T00:00:00Z")), 0);
        assert!(Date { days: u32::MAX }.to_string().starts_with("9999"));
    }
}
