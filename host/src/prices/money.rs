//! Decimal texts and whole numbers of money, without a fraction between them.

use std::fmt;

/// Decimals of a pico-dollar.
const PICO: i32 = 12;
/// Pico-dollars of a dollar.
const PICO_OF_DOLLAR: u128 = 1_000_000_000_000;
/// Decimals that are shown, at most: a micro-dollar is the smallest thing that people speak of.
const DECIMALS_SHOWN: u32 = 6;
/// Digits that are read of a number. More are no price's: they fit into what is counted with.
const DIGITS_MAX: usize = 30;

/// The dearest price that is taken, in pico-dollars a token: a dollar. No product of two numbers of tokens with it
/// leaves a `u128`.
pub(super) const RATE_MAX: u64 = 1_000_000_000_000;

/// A price in pico-dollars a token, from the text of dollars per token.
pub(super) fn per_token(text: &str) -> Option<u64> {
    pico(text, PICO)
}

/// A price in pico-dollars a token, from the text of dollars per million tokens.
pub(super) fn per_million(text: &str) -> Option<u64> {
    pico(text, PICO - 6)
}

/// A multiple, in thousandths.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    pico(text, 3)
}

/// A decimal number, shifted by so many decimals, and rounded there; what is not zero stays so. `None` for what is no
/// number, below zero, or above [`RATE_MAX`].
fn pico(text: &str, shift: i32) -> Option<u64> {
    let (mantissa, exponent) = decimal(text)?;
    let shift = exponent.checked_add(shift)?;
    let power = 10u128.checked_pow(shift.unsigned_abs());
    let whole = match (shift >= 0, power) {
        _ if mantissa == 0 => 0,
        (true, power) => mantissa.checked_mul(power?)?,
        (false, Some(power)) => ((mantissa / power) + u128::from(mantissa % power >= power.div_ceil(2))).max(1),
        (false, None) => 1,
    };
    u64::try_from(whole).ok().filter(|rate| *rate <= RATE_MAX)
}

/// A number that is not negative, as its digits and the power of ten behind them.
fn decimal(text: &str) -> Option<(u128, i32)> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut mantissa, mut digits, mut exponent) = (0u128, 0, i32::from(exponent));
    let behind = [(whole, 0), (fraction, -1)];
    for (character, step) in behind.iter().flat_map(|(digits, step)| digits.chars().map(move |digit| (digit, *step))) {
        if character == '_' {
            continue;
        }
        let digit = character.to_digit(10)?;
        if digits < DIGITS_MAX {
            mantissa = mantissa * 10 + u128::from(digit);
            digits += usize::from(mantissa > 0);
            exponent += step;
        } else {
            // A digit that is left out still counts for the place of those before it.
            exponent += step + 1;
        }
    }
    Some((mantissa, exponent))
}

/// So many pico-dollars, as people read them: at least two decimals, and a micro-dollar at the finest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(
    /// In pico-dollars.
    pub u128,
);

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = PICO_OF_DOLLAR / 10u128.pow(DECIMALS_SHOWN);
        let rounded = self.0.saturating_add(unit / 2) / unit;
        if rounded == 0 && self.0 > 0 {
            return f.write_str("under $0.000001");
        }
        let of_dollar = 10u128.pow(DECIMALS_SHOWN);
        let fraction = format!("{:06}", rounded % of_dollar);
        let shown = fraction.trim_end_matches('0').len().max(2);
        write!(f, "${}.{}", rounded / of_dollar, &fraction[..shown])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_are_read_to_the_last_digit() {
        for (text, expected) in [
            ("1.25e-06", Some(1_250_000)),
            ("1.25E-6", Some(1_250_000)),
            ("0.00000125", Some(1_250_000)),
            ("3.75e-08", Some(37_500)),
            ("0.0", Some(0)),
            ("0", Some(0)),
            ("0e9", Some(0)),
            // As fractions come out of other people's arithmetic.
            ("1.9250000000000002e-06", Some(1_925_000)),
            ("2.9999999999999999e-07", Some(300_000)),
            // Finer than anything is counted, and still not nothing.
            ("1e-13", Some(1)),
            ("4.9e-13", Some(1)),
            ("1e-400", Some(1)),
            ("1", Some(RATE_MAX)),
            ("1.000000000001", None),
            ("1e300", None),
            ("-1e-6", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1e", None),
            ("1e99999", None),
            ("NaN", None),
            ("\"1\"", None),
        ] {
            assert_eq!(per_token(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1.25", Some(1_250_000)),
            ("10", Some(10_000_000)),
            ("1_000.5", Some(1_000_500_000)),
            ("0.0375", Some(37_500)),
            ("+2", Some(2_000_000)),
            (".5", Some(500_000)),
            ("5.", Some(5_000_000)),
            ("1000000", Some(RATE_MAX)),
            ("1000001", None),
        ] {
            assert_eq!(per_million(text), expected, "{text}");
        }
    }

    #[test]
    fn money_is_shown_as_people_write_it() {
        let dollars = |pico| Dollars(pico).to_string();
        assert_eq!(dollars(0), "$0.00");
        assert_eq!(dollars(1_250_000_000_000), "$1.25");
        assert_eq!(dollars(1_200_000_000_000_000), "$1200.00");
        assert_eq!(dollars(37_500_000_000), "$0.0375");
        assert_eq!(dollars(1_234_567_890_123), "$1.234568");
        assert_eq!(dollars(1), "under $0.000001");
        assert!(dollars(u128::MAX).starts_with('$'));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[-+0-9._eE]{0,60}") {
            let _ = per_token(&text);
        }

        #[test]
        fn a_number_is_the_same_however_it_is_written(rate in 0..=RATE_MAX) {
            prop_assert_eq!(per_token(&format!("{rate}e-12")), Some(rate));
            prop_assert_eq!(per_million(&format!("{}.{:06}", rate / 1_000_000, rate % 1_000_000)), Some(rate));
        }
    }
}
