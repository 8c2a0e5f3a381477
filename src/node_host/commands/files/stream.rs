//! `file.fetch` with `transport: "binary"`: a file of any size over the invoke's two-way channel.
//!
//! The gateway says `start`; each message of content waits for an `ack`; the result is the end. Source: the official
//! node host 2026.9.6, driven.

use std::io::{self, Read};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::{
    Binding, Opened, Refused, answer,
    fetch::{Params, hex, too_large},
};
use crate::node_host::{
    commands::blocking,
    duplex::{Duplex, MAX_MESSAGE},
    failure::Failure,
};

pub(in super::super) async fn stream(params: Params, mut duplex: Duplex) -> Result<Value, Failure> {
    let find = move || {
        let limit = params.streamed_limit()?;
        Ok(Reading::new(params.find(limit)?, limit))
    };
    let mut reading = match blocking(move || Ok(find())).await? {
        Ok(reading) => reading,
        Err(refused) => return Ok(answer(Err(refused))),
    };
    duplex.open().await?;
    expect(&mut duplex, b"start").await?;
    loop {
        let (returned, piece) = blocking(move || {
            let piece = reading.next();
            Ok((reading, piece))
        })
        .await?;
        reading = returned;
        match piece {
            Ok(piece) if piece.is_empty() => return Ok(answer(Ok(reading.finish()))),
            Ok(piece) => duplex.send(&piece).await?,
            Err(refused) => return Ok(answer(Err(refused))),
        }
        expect(&mut duplex, b"ack").await?;
    }
}

async fn expect(duplex: &mut Duplex, word: &[u8]) -> Result<(), Failure> {
    if duplex.receive().await? == word {
        return Ok(());
    }
    Err(Failure::invalid(format!("file.fetch: expected the message {:?}", String::from_utf8_lossy(word))))
}

struct Reading {
    opened: Opened,
    limit: u64,
    size: u64,
    hash: digest::Context,
}

impl Reading {
    fn new(opened: Opened, limit: u64) -> Self {
        Self { opened, limit, size: 0, hash: digest::Context::new(&digest::SHA256) }
    }

    /// The next piece; empty at the end.
    fn next(&mut self) -> Result<Vec<u8>, Refused> {
        let mut piece = Vec::new();
        let failed = |error: &io::Error| Refused::io(error, "READ_ERROR").at(&self.opened.path);
        (&self.opened.file)
            .take(MAX_MESSAGE as u64)
            .read_to_end(&mut piece)
            .map_err(|error| failed(&error))?;
        self.size += piece.len() as u64;
        if self.size > self.limit {
            // It grew while it was read.
            return Err(too_large(self.size, self.limit, &self.opened.path));
        }
        self.hash.update(&piece);
        Ok(piece)
    }

    fn finish(self) -> Value {
        json!({
            "path": self.opened.path, "size": self.size, "sha256": hex(&self.hash.finish()), "transport": "binary",
            "mimeType": "", "base64": "", "binding": Binding::of(&self.opened.meta),
        })
    }
}
