//! The part of a request that says who sent it: its headers, borrowed from whatever server parsed them.

/// Headers by lower-case name, in the order they came.
#[derive(Debug, Default)]
pub struct RequestHead<'a>(Vec<(&'a str, &'a [u8])>);

/// What a header that may occur once turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Single<'a> {
    Absent,
    Text(&'a str),
    /// Several values, or bytes that are no visible text.
    Unusable,
}

impl<'a> RequestHead<'a> {
    /// All values of `name`, first to last.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.0.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(name, _)| *name)
    }

    pub fn single(&self, name: &str) -> Single<'a> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => Single::Absent,
            (Some(value), None) => visible(value).map_or(Single::Unusable, Single::Text),
            (Some(_), Some(_)) => Single::Unusable,
        }
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for RequestHead<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

/// Trimmed ASCII without control characters.
pub(super) fn visible(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte)).then_some(text)
}
