//! Payloads that are made up, so that nobody has to bring one.

/// Text of exactly `bytes` bytes, in lines that can be told apart.
pub fn made_up_text(bytes: u64) -> String {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut text = String::new();
    for line in 1.. {
        if text.len() >= bytes {
            break;
        }
        text.extend([
            "Line ",
            &line.to_string(),
            " of a payload that is sent in pieces and put together again.\n",
        ]);
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_long_as_asked_for() {
        for bytes in [0, 1, 5000] {
            assert_eq!(made_up_text(bytes).len() as u64, bytes);
        }
    }
}
