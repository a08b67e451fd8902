//! Sizes in words.

/// Bytes as people read them. Rounded down, so that what is just too little does not look like enough.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes >> 10, ((bytes % (1 << 10)) * 10) >> 10),
        1_048_576..1_073_741_824 => format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!([size(999), size(75_673), size(17 << 16)], ["999 bytes", "73.8 KiB", "1.0 MiB"]);
        assert_eq!(size((32 << 20) - 1), "31.9 MiB");
        assert_eq!([size((1 << 30) - 1), size(4 << 30)], ["1023.9 MiB", "4.0 GiB"]);
    }
}
