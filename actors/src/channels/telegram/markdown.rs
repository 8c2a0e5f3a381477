//! A model's Markdown, turned into what Telegram can show.

use super::formatted::{Formatted, Style};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::sync::Arc;

/// Longer addresses are shown as text: Telegram would drop the link anyway.
const MAX_LINK_BYTES: usize = 1024;
/// A language is a word, not a place to put things.
const MAX_LANGUAGE_BYTES: usize = 32;

/// Reads `markdown` as a chat writes it: a line break is a line break.
pub fn read(markdown: &str) -> Formatted {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let mut reader = Reader::default();
    for event in Parser::new_ext(markdown, options) {
        reader.event(event);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    out: Formatted,
    bold: usize,
    italic: usize,
    strike: usize,
    quote: usize,
    links: Vec<Option<Arc<str>>>,
    pre: Option<Arc<str>>,
    lists: Vec<Option<u64>>,
    table: Option<Table>,
    /// Line breaks owed before the next text.
    owed: usize,
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    header: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text),
            Event::Code(text) => self.code(&text),
            Event::SoftBreak | Event::HardBreak => self.text("\n"),
            Event::Rule => {
                self.text("──────────");
                self.owe(2);
            }
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
            Event::Html(html) | Event::InlineHtml(html) => self.html(&html),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.code(&text),
            Event::FootnoteReference(name) => self.text(&format!("[{name}]")),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::Strong => self.bold += 1,
            Tag::Emphasis => self.italic += 1,
            Tag::Strikethrough => self.strike += 1,
            Tag::BlockQuote(_) => self.quote += 1,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push(linkable(&dest_url));
            }
            Tag::CodeBlock(kind) => self.pre = Some(language(&kind)),
            Tag::List(first) => {
                self.owe(1);
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => self.table = Some(Table::default()),
            Tag::TableHead => self.row(true),
            Tag::TableRow => self.row(false),
            Tag::TableCell => {
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(String::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.bold = self.bold.saturating_sub(1);
                self.owe(2);
            }
            TagEnd::Strong => self.bold = self.bold.saturating_sub(1),
            TagEnd::Emphasis => self.italic = self.italic.saturating_sub(1),
            TagEnd::Strikethrough => self.strike = self.strike.saturating_sub(1),
            TagEnd::BlockQuote(_) => {
                self.quote = self.quote.saturating_sub(1);
                self.owe(2);
            }
            TagEnd::Link | TagEnd::Image => {
                self.links.pop();
            }
            TagEnd::CodeBlock => self.end_code_block(),
            TagEnd::Paragraph => self.owe(if self.lists.is_empty() { 2 } else { 1 }),
            TagEnd::Item => self.owe(1),
            TagEnd::List(_) => {
                self.lists.pop();
                self.owe(if self.lists.is_empty() { 2 } else { 1 });
            }
            TagEnd::Table => self.end_table(),
            TagEnd::HtmlBlock => self.owe(1),
            _ => {}
        }
    }

    fn item(&mut self) {
        let indent = "  ".repeat(self.lists.len().saturating_sub(1));
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number = number.saturating_add(1);
                mark
            }
            _ => "• ".to_owned(),
        };
        self.owe(1);
        self.text(&format!("{indent}{mark}"));
        // What follows the mark stands on its line.
        self.owed = 0;
    }

    fn text(&mut self, text: &str) {
        if let Some(cell) = self.cell() {
            cell.push_str(&text.replace('\n', " "));
            return;
        }
        let style = self.style();
        self.pay(&style);
        self.out.push(text, &style);
    }

    fn code(&mut self, text: &str) {
        if self.table.is_some() {
            return self.text(text);
        }
        let style = Style { code: true, ..self.style() };
        self.pay(&style);
        self.out.push(text, &style);
    }

    /// Telegram's HTML is not the web's: show what was written, except for a line break.
    fn html(&mut self, html: &str) {
        let bare: String = html.chars().filter(|c| !c.is_whitespace() && *c != '/').collect();
        let text = if bare.eq_ignore_ascii_case("<br>") { "\n" } else { html };
        self.text(text);
    }

    fn end_code_block(&mut self) {
        if let Some(last) = self.out.segments.last_mut()
            && last.style.pre.is_some()
        {
            let kept = last.text.trim_end_matches('\n').len();
            last.text.truncate(kept);
            if kept == 0 {
                self.out.segments.pop();
            }
        }
        self.pre = None;
        self.owe(2);
    }

    fn row(&mut self, header: bool) {
        if let Some(table) = &mut self.table {
            table.header |= header;
            table.rows.push(Vec::new());
        }
    }

    fn cell(&mut self) -> Option<&mut String> {
        self.table.as_mut()?.rows.last_mut()?.last_mut()
    }

    fn end_table(&mut self) {
        if let Some(table) = self.table.take() {
            self.pre = Some("".into());
            self.text(&table.draw());
            self.end_code_block();
        }
    }

    fn style(&self) -> Style {
        Style {
            quote: self.quote > 0,
            bold: self.bold > 0,
            italic: self.italic > 0,
            strike: self.strike > 0,
            code: false,
            pre: self.pre.clone(),
            link: self.links.iter().rev().flatten().next().cloned(),
        }
    }

    fn owe(&mut self, breaks: usize) {
        self.owed = self.owed.max(breaks);
    }

    /// Breaks between two blocks belong to neither, unless one quote holds both.
    fn pay(&mut self, next: &Style) {
        let owed = std::mem::take(&mut self.owed);
        let Some(last) = self.out.segments.last() else { return };
        let quote = last.style.quote && next.quote;
        self.out.push(&"\n".repeat(owed), &Style { quote, ..Style::default() });
    }

    fn finish(self) -> Formatted {
        self.out
    }
}

impl Table {
    /// Columns padded to the same width: Telegram has no tables, but its code blocks keep spaces.
    fn draw(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            lines.push(cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned());
            if index == 0 && self.header {
                let rules = widths.iter().map(|width| "-".repeat(*width));
                lines.push(rules.collect::<Vec<_>>().join("-+-"));
            }
        }
        lines.join("\n")
    }
}

fn linkable(url: &str) -> Option<Arc<str>> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let known = matches!(scheme.as_deref(), Some("http" | "https" | "tg" | "mailto" | "tel"));
    (known && url.len() <= MAX_LINK_BYTES).then(|| url.into())
}

fn language(kind: &CodeBlockKind<'_>) -> Arc<str> {
    let CodeBlockKind::Fenced(info) = kind else { return "".into() };
    let word = info.split([' ', ',', '{']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '#' | '_' | '.');
    if word.len() <= MAX_LANGUAGE_BYTES && word.chars().all(plain) { word.into() } else { "".into() }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn html(markdown: &str) -> String {
        read(markdown).html()
    }

    #[test]
    fn inline_styles() {
        assert_eq!(
            html("**bold** *it* ~~gone~~ `co<de` and ***both***"),
            "<b>bold</b> <i>it</i> <s>gone</s> <code>co&lt;de</code> and <b><i>both</i></b>"
        );
    }

    #[test]
    fn headings_paragraphs_and_line_breaks() {
        assert_eq!(html("# Title\n\none\ntwo\n\nthree"), "<b>Title</b>\n\none\ntwo\n\nthree");
    }

    #[test]
    fn code_blocks_keep_their_language() {
        assert_eq!(
            html("see\n```rust\nlet a = &b;\n\n```\nend"),
            "see\n\n<pre><code class=\"language-rust\">let a = &amp;b;</code></pre>\n\nend"
        );
        assert_eq!(html("```\nx\n```"), "<pre>x</pre>");
        assert_eq!(html("```a\"><b>\nx\n```"), "<pre>x</pre>");
    }

    #[test]
    fn lists_nest() {
        assert_eq!(html("- a\n- b\n  - c\n- d"), "• a\n• b\n  • c\n• d");
        assert_eq!(html("3. a\n4. b\n\nend"), "3. a\n4. b\n\nend");
        assert_eq!(html("- [x] done\n- [ ] open"), "• ☑ done\n• ☐ open");
    }

    #[test]
    fn only_known_schemes_become_links() {
        assert_eq!(html("[x](https://a.b/c?d=1&e)"), "<a href=\"https://a.b/c?d=1&amp;e\">x</a>");
        assert_eq!(html("[x](javascript:alert(1))"), "x");
        assert_eq!(html("<https://a.b>"), "<a href=\"https://a.b\">https://a.b</a>");
    }

    #[test]
    fn quotes_do_not_nest() {
        assert_eq!(html("> a\n> > b\n\nc"), "<blockquote>a\n\nb</blockquote>\n\nc");
    }

    #[test]
    fn tables_become_aligned_text() {
        assert_eq!(html("| a | bb |\n|---|---|\n| **ccc** | d |"), "<pre>a   | bb\n----+---\nccc | d</pre>");
    }

    #[test]
    fn written_html_is_shown_as_written() {
        assert_eq!(html("a <b>x</b> <script>"), "a &lt;b&gt;x&lt;/b&gt; &lt;script&gt;");
        assert_eq!(html("a<br/>b"), "a\nb");
    }

    #[test]
    fn unfinished_markdown_of_a_stream_is_still_balanced() {
        assert_eq!(html("**bold and `code"), "**bold and `code");
        assert_eq!(html("```py\nprint("), "<pre><code class=\"language-py\">print(</code></pre>");
    }
}
