//! JSON with halves of characters: JavaScript writes a cut surrogate pair as one escape, which is JSON to it and to
//! nobody whose strings are Unicode.

use serde::Deserialize;
use std::borrow::Cow;

/// Reads JSON text; what is unreadable is read again with U+FFFD for every half of a character.
///
/// # Errors
/// What is wrong with the text besides.
pub fn from_str<T>(text: &str) -> Result<T, serde_json::Error>
where
    T: for<'de> Deserialize<'de>,
{
    serde_json::from_str(text).or_else(|error| match mended(text) {
        Cow::Owned(mended) => serde_json::from_str(&mended),
        Cow::Borrowed(_) => Err(error),
    })
}

/// JSON text with U+FFFD for every escaped surrogate that has no other half; borrowed if there is none.
pub fn mended(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        let (end, lone) = match (unit(text, escape), unit(text, escape + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (escape + 12, false),
            (Some(0xD800..=0xDFFF), _) => (escape + 6, true),
            // Whatever is escaped here, a backslash too, begins no escape of its own.
            _ => (escape + 1 + text[escape + 1..].chars().next().map_or(0, char::len_utf8), false),
        };
        if lone {
            mended.push_str(&text[kept..escape]);
            mended.push_str("\\ufffd");
            kept = end;
        }
        at = end;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[kept..]);
    Cow::Owned(mended)
}

/// The UTF-16 unit that is escaped at this place.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn halves_of_characters_are_replaced_and_whole_ones_kept() {
        let read = |text: &str| from_str::<String>(text).unwrap();
        assert_eq!(read(r#""a\ud83d""#), "a\u{fffd}");
        assert_eq!(read(r#""\uDE00\ud83d\ude00\ud83d\ud83dé""#), "\u{fffd}\u{1f600}\u{fffd}\u{fffd}é");
        assert_eq!(read(r#""\ud83d\\ude00""#), "\u{fffd}\\ude00");
        let text = r#""\\ud83d""#;
        assert!(matches!(mended(text), Cow::Borrowed(_)), "an escaped backslash");
        assert!(from_str::<Value>(r#"{"a":"\ud83d"#).is_err(), "cut short is cut short");
    }

    proptest! {
        #[test]
        fn whatever_javascript_writes_is_readable(units in prop::collection::vec(any::<u16>(), 0..20)) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read = from_str::<String>(&format!("\"{escapes}\"")).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\\ud8-f"é]{0,30}"#) {
            let _ = mended(&text);
        }
    }
}
