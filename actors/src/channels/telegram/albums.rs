//! Albums: one message to the person who sends it, an update for every picture to us.
//!
//! The pictures come within moments, but not always in one poll. So an album waits until a pause goes by
//! without another picture of it. It waits at Telegram: neither it nor anything after it is acknowledged until
//! it is stored, as one message; so a crash in between loses nothing, and what is told twice was never told.

use super::incoming::{ChatMessage, Incoming};
use std::collections::HashMap;
use std::time::Duration;

/// How long an album may take to grow by one more picture.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// Telegram makes none larger.
const MOST: usize = 10;

/// A chat and what Telegram calls the album there.
type Name = (i64, String);

/// Albums that may still grow, with the pictures they had when they were last looked at.
#[derive(Default)]
pub(super) struct Albums(HashMap<Name, usize>);

/// An album among updates.
struct Seen {
    first: i64,
    last: i64,
    count: usize,
}

/// What may be taken of the updates of a poll.
pub(super) struct Gathered {
    /// Each album is one message here, at the place of its first picture.
    pub(super) updates: Vec<(i64, Incoming)>,
    /// Where an album begins that may still grow: nothing from here on is to be acknowledged.
    pub(super) held_from: Option<i64>,
}

impl Albums {
    pub(super) fn gather(&mut self, mut updates: Vec<(i64, Incoming)>) -> Gathered {
        let mut seen: HashMap<Name, Seen> = HashMap::new();
        for (number, update) in &updates {
            let Some(name) = name(update) else { continue };
            let album = seen.entry(name).or_insert(Seen { first: *number, last: *number, count: 0 });
            album.first = album.first.min(*number);
            album.last = album.last.max(*number);
            album.count += 1;
        }
        let growing = |(name, album): &(&Name, &Seen)| {
            album.count < MOST && self.0.get(*name).is_none_or(|before| album.count > *before)
        };
        let mut held_from = seen.iter().filter(growing).map(|(_, album)| album.first).min();
        // A whole album that reaches beyond that place stays whole, too.
        while let Some(held) = held_from
            && let Some(album) = seen.values().find(|album| album.first < held && album.last >= held)
        {
            held_from = Some(album.first);
        }
        if let Some(held) = held_from {
            updates.retain(|(number, _)| *number < held);
            seen.retain(|_, album| album.first >= held);
            self.0 = seen.into_iter().map(|(name, album)| (name, album.count)).collect();
        } else {
            self.0.clear();
        }
        Gathered { updates: join(updates), held_from }
    }
}

fn name(update: &Incoming) -> Option<Name> {
    match update {
        Incoming::Message(message) => Some((message.chat, message.album.clone()?)),
        _ => None,
    }
}

/// Makes one message of every album.
fn join(updates: Vec<(i64, Incoming)>) -> Vec<(i64, Incoming)> {
    let mut joined: Vec<(i64, Incoming)> = Vec::with_capacity(updates.len());
    let mut places: HashMap<Name, usize> = HashMap::new();
    for (number, update) in updates {
        let name = name(&update);
        let place = name.as_ref().and_then(|name| places.get(name)).and_then(|at| joined.get_mut(*at));
        match (place, update) {
            (Some((_, Incoming::Message(album))), Incoming::Message(picture)) => add(album, *picture),
            (_, update) => {
                if let Some(name) = name {
                    places.insert(name, joined.len());
                }
                joined.push((number, update));
            }
        }
    }
    joined
}

/// The words, and whom they name, stand at any one of the pictures.
fn add(album: &mut ChatMessage, picture: ChatMessage) {
    if album.text.is_empty() {
        album.text = picture.text;
    }
    album.named.extend(picture.named);
    album.files.extend(picture.files);
    album.reply = album.reply.take().or(picture.reply);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::telegram::incoming::read;
    use serde_json::{Value, json};

    fn update(number: i64, fields: Value) -> (i64, Incoming) {
        let mut message = json!({
            "message_id": number, "date": 1, "from": {"id": 5, "is_bot": false, "first_name": "A"},
            "chat": {"id": 5, "type": "private", "first_name": "A"},
        });
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let raw = serde_json::value::to_raw_value(&json!({"update_id": number, "message": message})).unwrap();
        (number, read(&raw))
    }

    fn picture(number: i64, album: &str, caption: &str) -> (i64, Incoming) {
        let photo = json!([{"file_id": number.to_string(), "file_unique_id": "u", "width": 1, "height": 1}]);
        update(number, json!({"photo": photo, "media_group_id": album, "caption": caption}))
    }

    fn text(number: i64) -> (i64, Incoming) {
        update(number, json!({"text": "words"}))
    }

    /// Number, text and files of each.
    fn shape(gathered: &Gathered) -> Vec<(i64, String, usize)> {
        let one = |(number, update): &(i64, Incoming)| match update {
            Incoming::Message(message) => (*number, message.text.clone(), message.files.len()),
            other => panic!("{other:?}"),
        };
        gathered.updates.iter().map(one).collect()
    }

    #[test]
    fn an_album_waits_until_it_grows_no_more_and_what_follows_waits_with_it() {
        let mut albums = Albums::default();
        let first = albums.gather(vec![text(1), picture(2, "a", "")]);
        assert_eq!((shape(&first), first.held_from), (vec![(1, "words".into(), 0)], Some(2)));
        let grown = albums.gather(vec![picture(2, "a", ""), text(3), picture(4, "a", "both")]);
        assert_eq!((shape(&grown), grown.held_from), (vec![], Some(2)));
        let whole = albums.gather(vec![picture(2, "a", ""), text(3), picture(4, "a", "both")]);
        assert_eq!(shape(&whole), [(2, "both".into(), 2), (3, "words".into(), 0)]);
        assert_eq!(whole.held_from, None);
        assert!(albums.0.is_empty());
    }

    #[test]
    fn an_album_that_can_grow_no_more_does_not_wait() {
        let all = (1..=10).map(|number| picture(number, "a", "")).collect();
        assert_eq!(shape(&Albums::default().gather(all)), [(1, String::new(), 10)]);
    }

    #[test]
    fn albums_in_one_another_are_never_cut() {
        let mut albums = Albums::default();
        albums.gather(vec![picture(1, "a", "")]);
        albums.gather(vec![picture(1, "a", ""), picture(2, "b", ""), picture(3, "a", "")]);
        // The first is whole now, but the other began before its end and still grows.
        let updates =
            || vec![picture(1, "a", ""), picture(2, "b", ""), picture(3, "a", ""), picture(4, "b", "")];
        assert_eq!(albums.gather(updates()).held_from, Some(1));
        let whole = albums.gather(updates());
        assert_eq!(shape(&whole), [(1, String::new(), 2), (2, String::new(), 2)]);
    }
}
