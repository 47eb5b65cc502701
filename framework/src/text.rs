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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_281_167), "1,281,167");
    }
}
