//! Text with styles, and how Telegram wants to read it.

use std::sync::Arc;

/// A message as a person sees it: runs of text, each with its style.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formatted {
    pub segments: Vec<Segment>,
}

/// A run of text that looks the same from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub text: String,
    pub style: Style,
}

/// What Telegram can show. `code` and `pre` exclude the other styles, as Telegram does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Style {
    pub quote: bool,
    pub bold: bool,
    pub italic: bool,
    pub strike: bool,
    pub code: bool,
    /// A code block; the text is its language, perhaps empty.
    pub pre: Option<Arc<str>>,
    pub link: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tag {
    Quote,
    Pre(Arc<str>),
    Link(Arc<str>),
    Bold,
    Italic,
    Strike,
    Code,
}

impl Formatted {
    /// Adds `text` in `style`, joining it to the last run when that looks the same.
    pub fn push(&mut self, text: &str, style: &Style) {
        if text.is_empty() {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.style == *style => last.text.push_str(text),
            _ => self.segments.push(Segment { text: text.to_owned(), style: style.clone() }),
        }
    }

    /// The words alone, for a chat that refused the formatting.
    pub fn plain(&self) -> String {
        self.segments.iter().map(|segment| segment.text.as_str()).collect()
    }

    pub fn is_blank(&self) -> bool {
        self.segments.iter().all(|segment| segment.text.trim().is_empty())
    }

    /// Telegram HTML: every tag closed, in the order it was opened.
    pub fn html(&self) -> String {
        let mut html = Html::default();
        for segment in &self.segments {
            html.turn_to(&segment.style);
            for character in segment.text.chars() {
                html.push(character);
            }
        }
        html.finish()
    }
}

impl Style {
    /// The open tags of this style, outermost first.
    fn tags(&self) -> Vec<Tag> {
        let mut tags = Vec::new();
        if self.quote {
            tags.push(Tag::Quote);
        }
        if let Some(language) = &self.pre {
            tags.push(Tag::Pre(language.clone()));
            return tags;
        }
        if self.code {
            tags.push(Tag::Code);
            return tags;
        }
        tags.extend(self.link.clone().map(Tag::Link));
        for (wanted, tag) in [(self.bold, Tag::Bold), (self.italic, Tag::Italic), (self.strike, Tag::Strike)]
        {
            if wanted {
                tags.push(tag);
            }
        }
        tags
    }
}

impl Tag {
    fn open(&self, out: &mut String) {
        match self {
            Tag::Quote => out.push_str("<blockquote>"),
            Tag::Pre(language) if language.is_empty() => out.push_str("<pre>"),
            Tag::Pre(language) => {
                out.push_str("<pre><code class=\"language-");
                language.chars().for_each(|character| escape(character, out));
                out.push_str("\">");
            }
            Tag::Link(url) => {
                out.push_str("<a href=\"");
                url.chars().for_each(|character| escape(character, out));
                out.push_str("\">");
            }
            Tag::Bold => out.push_str("<b>"),
            Tag::Italic => out.push_str("<i>"),
            Tag::Strike => out.push_str("<s>"),
            Tag::Code => out.push_str("<code>"),
        }
    }

    fn close(&self) -> &'static str {
        match self {
            Tag::Quote => "</blockquote>",
            Tag::Pre(language) if language.is_empty() => "</pre>",
            Tag::Pre(_) => "</code></pre>",
            Tag::Link(_) => "</a>",
            Tag::Bold => "</b>",
            Tag::Italic => "</i>",
            Tag::Strike => "</s>",
            Tag::Code => "</code>",
        }
    }
}

/// Telegram HTML being written; it knows at every moment how long it would be if it ended here.
#[derive(Default)]
pub(super) struct Html {
    out: String,
    open: Vec<Tag>,
    utf16: usize,
    counted: usize,
}

impl Html {
    /// Closes and opens what it takes to go on in `style`.
    pub(super) fn turn_to(&mut self, style: &Style) {
        let wanted = style.tags();
        let kept = self.open.iter().zip(&wanted).take_while(|(open, wanted)| open == wanted).count();
        for tag in self.open.drain(kept..).rev() {
            self.out.push_str(tag.close());
        }
        for tag in wanted.into_iter().skip(kept) {
            tag.open(&mut self.out);
            self.open.push(tag);
        }
    }

    pub(super) fn push(&mut self, character: char) {
        escape(character, &mut self.out);
    }

    /// UTF-16 units of the finished text if it ended now.
    pub(super) fn len_if_closed(&mut self) -> usize {
        self.utf16 += self.out[self.counted..].encode_utf16().count();
        self.counted = self.out.len();
        self.utf16 + self.open.iter().map(|tag| tag.close().len()).sum::<usize>()
    }

    fn finish(mut self) -> String {
        self.turn_to(&Style::default());
        self.out
    }
}

/// Telegram knows four entities; nothing else may be written with an ampersand.
fn escape(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        // Telegram refuses text with this one.
        '\0' => {}
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_styles_are_closed_in_order() {
        let mut text = Formatted::default();
        let bold = Style { bold: true, ..Style::default() };
        let both = Style { bold: true, italic: true, ..Style::default() };
        let italic = Style { italic: true, ..Style::default() };
        text.push("a", &bold);
        text.push("b", &both);
        text.push("c", &italic);
        assert_eq!(text.html(), "<b>a<i>b</i></b><i>c</i>");
    }

    #[test]
    fn what_could_be_markup_is_escaped() {
        let mut text = Formatted::default();
        let link = Style { link: Some("https://x/?a=\"1\"&b=<2>".into()), ..Style::default() };
        text.push("a<b> & \"c\"", &Style::default());
        text.push("x", &link);
        assert_eq!(
            text.html(),
            "a&lt;b&gt; &amp; &quot;c&quot;<a href=\"https://x/?a=&quot;1&quot;&amp;b=&lt;2&gt;\">x</a>"
        );
    }

    #[test]
    fn code_takes_no_other_style() {
        let mut text = Formatted::default();
        text.push("x", &Style { bold: true, code: true, ..Style::default() });
        assert_eq!(text.html(), "<code>x</code>");
    }
}
