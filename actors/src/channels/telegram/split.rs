//! Cuts a long message into pieces that Telegram takes.

use super::formatted::{Formatted, Html, Style};

/// Telegram's limit for one message, in UTF-16 units.
pub const MAX_MESSAGE_UNITS: usize = 4096;
/// Telegram's limit for the text under a photo or a file.
pub const MAX_CAPTION_UNITS: usize = 1024;

/// Pieces whose HTML is at most `limit` UTF-16 units each.
///
/// The tags count too, although Telegram counts only what it shows: so the piece fits whichever way a
/// server counts. A cut falls between paragraphs, lines or words where it can, never inside a character,
/// and a style that spans it is closed and opened again. Pieces of nothing but space are left out, for
/// Telegram refuses them.
pub fn split(text: &Formatted, limit: usize) -> Vec<Formatted> {
    let characters = flatten(text);
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < characters.len() {
        let full = fill(&characters[start..], limit);
        let end = if start + full == characters.len() {
            characters.len()
        } else {
            start + cut(&characters[start..start + full + 1])
        };
        let piece = collect(&characters[start..end]);
        if !piece.is_blank() {
            pieces.push(piece);
        }
        start = end;
    }
    pieces
}

type Styled<'a> = (char, &'a Style);

fn flatten(text: &Formatted) -> Vec<Styled<'_>> {
    let segments = text.segments.iter();
    segments.flat_map(|segment| segment.text.chars().map(move |c| (c, &segment.style))).collect()
}

fn collect(characters: &[Styled<'_>]) -> Formatted {
    let mut piece = Formatted::default();
    let mut buffer = [0; 4];
    for (character, style) in characters {
        piece.push(character.encode_utf8(&mut buffer), style);
    }
    piece
}

/// How many characters fit; at least one, so that there is always progress.
fn fill(characters: &[Styled<'_>], limit: usize) -> usize {
    let mut html = Html::default();
    let mut last: Option<&Style> = None;
    for (index, (character, style)) in characters.iter().enumerate() {
        if last.is_none_or(|last| !std::ptr::eq(last, *style)) {
            html.turn_to(style);
            last = Some(style);
        }
        html.push(*character);
        if html.len_if_closed() > limit {
            return index.max(1);
        }
    }
    characters.len()
}

/// The best place to cut in all but the last of `characters`, which shows only what would follow.
fn cut(characters: &[Styled<'_>]) -> usize {
    let full = characters.len() - 1;
    let half = full / 2;
    let break_after = |wanted: &dyn Fn(usize) -> bool| (half.max(1)..=full).rev().find(|&end| wanted(end));
    let at = |index: usize| characters[index].0;
    break_after(&|end| end >= 2 && at(end - 1) == '\n' && at(end - 2) == '\n' && at(end) != '\n')
        .or_else(|| break_after(&|end| at(end - 1) == '\n'))
        .or_else(|| break_after(&|end| at(end - 1).is_whitespace()))
        .or_else(|| (1..=full).rev().find(|&end| !joined(at(end - 1), at(end))))
        .unwrap_or(full)
}

/// Whether two characters are drawn as one, so that a cut between them would show.
fn joined(before: char, after: char) -> bool {
    const JOINER: char = '\u{200d}';
    let combining = matches!(after, '\u{0300}'..='\u{036f}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{20d0}'..='\u{20ff}' | '\u{e0020}'..='\u{e007f}');
    combining || before == JOINER || after == JOINER
}

#[cfg(test)]
mod tests {
    use super::super::{formatted::Segment, markdown};
    use super::*;
    use proptest::prelude::*;

    fn visible(pieces: &[Formatted]) -> String {
        pieces.iter().map(Formatted::plain).collect()
    }

    /// Every tag closed in order, and no ampersand that is not one of the four entities.
    fn balanced(html: &str) -> bool {
        let mut open = Vec::new();
        let mut rest = html;
        while let Some(at) = rest.find(['<', '&']) {
            let tail = &rest[at..];
            if let Some(entity) = tail.strip_prefix('&') {
                if !["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)) {
                    return false;
                }
                rest = entity;
                continue;
            }
            let Some(end) = tail.find('>') else { return false };
            let tag = &tail[1..end];
            let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
            match tag.strip_prefix('/') {
                Some(_) if open.pop() != Some(name) => return false,
                Some(_) => {}
                None => open.push(name),
            }
            rest = &tail[end + 1..];
        }
        open.is_empty()
    }

    #[test]
    fn a_short_text_stays_whole() {
        let text = markdown::read("**hello** there");
        assert_eq!(split(&text, MAX_MESSAGE_UNITS), vec![text]);
    }

    #[test]
    fn a_cut_prefers_paragraphs_then_lines_then_words() {
        let cuts = |text: &str, limit| {
            let pieces = split(&markdown::read(text), limit);
            pieces.iter().map(|piece| piece.plain()).collect::<Vec<_>>()
        };
        assert_eq!(cuts("aaaa bb\n\ncc dd ee", 12), ["aaaa bb\n\n", "cc dd ee"]);
        assert_eq!(cuts("aaaa bb\ncc dd ee", 12), ["aaaa bb\n", "cc dd ee"]);
        assert_eq!(cuts("aaaa bbbb cccc", 11), ["aaaa bbbb ", "cccc"]);
        assert_eq!(cuts("abcdefgh", 4), ["abcd", "efgh"]);
    }

    #[test]
    fn a_style_goes_on_in_the_next_piece() {
        let text = markdown::read("```rust\nline one\nline two\n```");
        let pieces = split(&text, 56);
        let html: Vec<_> = pieces.iter().map(Formatted::html).collect();
        assert_eq!(
            html,
            [
                "<pre><code class=\"language-rust\">line one\n</code></pre>",
                "<pre><code class=\"language-rust\">line two</code></pre>"
            ]
        );
    }

    #[test]
    fn a_character_outside_the_basic_plane_counts_two_and_stays_whole() {
        let text = markdown::read(&"😀".repeat(3000));
        let pieces = split(&text, MAX_MESSAGE_UNITS);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].html().encode_utf16().count(), 4096);
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(split(&markdown::read(&format!("ab{family}")), 8)[0].plain(), "ab");
    }

    #[test]
    fn blank_pieces_are_left_out() {
        let style = Style::default();
        let text = Formatted { segments: vec![Segment { text: " ".repeat(50), style }] };
        assert_eq!(split(&text, 10), vec![]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_piece_is_whole(
            markdown in "([a-z&<>\"]{1,9}|\\*\\*|\\*|~~|`|\n|\n\n| |- |> |# |```\n|\\[x\\]\\(https://e\\.x\\)|😀|é|日本|\\|a\\|b\\|\n\\|-\\|-\\|\n\\|c\\|d\\|\n){0,120}",
            limit in 160usize..400,
        ) {
            let text = markdown::read(&markdown);
            let pieces = split(&text, limit);
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(bare(&visible(&pieces)), bare(&text.plain()));
            for piece in &pieces {
                let html = piece.html();
                prop_assert!(html.encode_utf16().count() <= limit, "{}", html);
                prop_assert!(balanced(&html), "{}", html);
                prop_assert!(!piece.is_blank());
            }
        }

        #[test]
        fn any_text_at_all_is_taken(markdown in "\\PC{0,600}", limit in 64usize..300) {
            let text = markdown::read(&markdown);
            for piece in split(&text, limit.max(160)) {
                prop_assert!(balanced(&piece.html()));
            }
        }
    }
}
