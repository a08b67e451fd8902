//! The minutes, hours, days and months of a time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use spillway_resilience::{Calendar, Span};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;

/// In which minute, hour, day and month this second falls.
pub(crate) fn calendar(zone: &TimeZone, unix_s: i64) -> Calendar {
    let minute = span(unix_s.div_euclid(MINUTE_S) * MINUTE_S, MINUTE_S);
    let Some(local) = Timestamp::from_second(unix_s).ok().map(|at| at.to_zoned_datetime(zone.clone())) else {
        return plain(unix_s, minute);
    };
    let into_hour = i64::from(local.minute()) * MINUTE_S + i64::from(local.second());
    let hour = span(unix_s - into_hour, HOUR_S);
    match (day(&local), month(&local)) {
        (Some(day), Some(month)) => Calendar::new(minute, hour, day, month),
        _ => plain(unix_s, minute),
    }
}

fn day(local: &ZonedDateTime) -> Option<Span> {
    let starts = local.start_of_day().ok()?;
    let ends = local.tomorrow().ok()?.start_of_day().ok()?;
    Some(between(&starts, &ends))
}

fn month(local: &ZonedDateTime) -> Option<Span> {
    let first = local.first_of_month().ok()?;
    let ends = first.checked_add(1.month()).ok()?.start_of_day().ok()?;
    Some(between(&first.start_of_day().ok()?, &ends))
}

/// Beyond all years that calendars know: days as they are everywhere, and months of thirty.
fn plain(unix_s: i64, minute: Span) -> Calendar {
    let whole = |length: i64| span(unix_s.div_euclid(length).saturating_mul(length), length);
    Calendar::new(minute, whole(HOUR_S), whole(DAY_S), whole(30 * DAY_S))
}

fn between(starts: &ZonedDateTime, ends: &ZonedDateTime) -> Span {
    Span { starts_unix_s: starts.timestamp().as_second(), ends_unix_s: ends.timestamp().as_second() }
}

fn span(starts_unix_s: i64, length_s: i64) -> Span {
    Span { starts_unix_s, ends_unix_s: starts_unix_s.saturating_add(length_s) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spillway_resilience::Period;

    fn at(zone: &str, moment: &str) -> Calendar {
        let zone = TimeZone::get(zone).expect("a zone");
        calendar(&zone, moment.parse::<Timestamp>().expect("a moment").as_second())
    }

    fn shown(span: Span) -> (String, String) {
        let text = |unix_s| Timestamp::from_second(unix_s).expect("a moment").to_string();
        (text(span.starts_unix_s), text(span.ends_unix_s))
    }

    #[test]
    fn days_and_months_begin_at_midnight_where_people_are() {
        let berlin = at("Europe/Berlin", "2026-11-30T23:30:30Z");
        assert_eq!(shown(berlin.of(Period::Minute)), ("2026-11-30T23:30:00Z".into(), "2026-11-30T23:31:00Z".into()));
        assert_eq!(shown(berlin.of(Period::Hour)), ("2026-11-30T23:00:00Z".into(), "2026-12-01T00:00:00Z".into()));
        assert_eq!(shown(berlin.of(Period::Day)), ("2026-11-30T23:00:00Z".into(), "2026-12-01T23:00:00Z".into()));
        assert_eq!(shown(berlin.of(Period::Month)), ("2026-11-30T23:00:00Z".into(), "2026-12-31T23:00:00Z".into()));
        let india = at("Asia/Kolkata", "2026-11-30T23:45:00Z");
        assert_eq!(shown(india.of(Period::Hour)), ("2026-11-30T23:30:00Z".into(), "2026-12-01T00:30:00Z".into()));
        let utc = at("UTC", "2026-02-28T12:00:00Z");
        assert_eq!(shown(utc.of(Period::Month)), ("2026-02-01T00:00:00Z".into(), "2026-03-01T00:00:00Z".into()));
    }

    #[test]
    fn a_day_on_which_clocks_are_set_is_longer_or_shorter() {
        let hours = |moment: &str| {
            let day = at("Europe/Berlin", moment).of(Period::Day);
            (day.ends_unix_s - day.starts_unix_s) / HOUR_S
        };
        assert_eq!((hours("2026-03-29T10:00:00Z"), hours("2026-10-25T10:00:00Z")), (23, 25));
    }

    proptest! {
        #[test]
        fn every_second_falls_into_its_spans_and_they_follow_one_another(
            unix_s in any::<i64>(),
            near in -1_000_000_000i64..5_000_000_000,
            zone in 0usize..4,
        ) {
            let zone = TimeZone::get(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"][zone]).expect("known");
            for unix_s in [unix_s / 2, near] {
                let calendar = calendar(&zone, unix_s);
                for period in Period::ALL {
                    let span = calendar.of(period);
                    prop_assert!(span.starts_unix_s <= unix_s && unix_s < span.ends_unix_s, "{period:?} {span:?}");
                    // Entries of the ledger are summed by quarters of an hour.
                    let are_quarters = span.starts_unix_s % 900 == 0 || period == Period::Minute;
                    prop_assert!(are_quarters || period == Period::Total || near < 0 || unix_s != near, "{span:?}");
                }
                let day = calendar.of(Period::Day);
                prop_assert_eq!(super::calendar(&zone, day.starts_unix_s).of(Period::Day), day);
            }
        }
    }
}
