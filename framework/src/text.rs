//! Numbers as texts for readers.

/// `1 step`, `2 steps`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// A number with its thousands set apart: `1,281,167`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes for a person.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        10_000_000_000.. => format!("{:.0} GB", bytes as f64 * 1e-9),
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 * 1e-9),
        10_000_000.. => format!("{:.0} MB", bytes as f64 * 1e-6),
        _ => format!("{:.1} MB", bytes as f64 * 1e-6),
    }
}

/// A number with so many decimals, or as many more as show its first two digits; as a power of ten where that is far behind the
/// point.
pub(crate) fn digits(value: f64, decimals: usize) -> String {
    /// Decimals at most.
    const MOST: i32 = 7;
    // The place of the first digit that is not zero; none of 0.
    let first = -value.abs().log10().floor();
    if value == 0.0 || first < decimals as f64 {
        format!("{value:.decimals$}")
    } else if first < f64::from(MOST) {
        format!("{value:.0$}", first as usize + 1)
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_their_digits() {
        for (value, decimals, expected) in [
            (61.25, 2, "61.25"),
            (0.0, 4, "0.0000"),
            (1234.56789, 4, "1234.5679"),
            (-3.93214, 4, "-3.9321"),
            (0.00123, 4, "0.0012"),
            (0.000123, 4, "0.00012"),
            (-0.0000129, 4, "-0.000013"),
            (0.0000001, 4, "1.0e-7"),
            (3.4e-12, 4, "3.4e-12"),
            (0.0421, 2, "0.042"),
            (0.1, 2, "0.10"),
            (f64::MIN_POSITIVE, 2, "2.2e-308"),
        ] {
            assert_eq!(digits(value, decimals), expected);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_281_167), "1,281,167");
    }
}
