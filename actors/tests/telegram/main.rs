//! A Telegram account against a fake Bot API: what people write, what comes back, and everything that can go wrong.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../../tests/support/fake_telegram/mod.rs"]
mod fake_telegram;

mod answers;
mod bench;
mod media;
mod people;
mod previews;
mod trouble;
