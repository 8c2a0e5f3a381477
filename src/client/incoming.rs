//! Frames as a client reads them; payloads stay raw until somebody wants them.

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tidegate_protocol::{ErrorCode, ErrorShape, lenient};

use super::ClientError;

/// Something that the gateway told without being asked.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub payload: Option<Box<RawValue>>,
    /// Counts broadcasts; targeted events have none.
    pub seq: Option<u64>,
}

impl Event {
    /// Reads the payload.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let text = self.payload.as_deref().map_or("null", RawValue::get);
        lenient::from_str(text)
            .map_err(|error| ClientError::Shape { method: self.name.clone(), problem: error.to_string() })
    }
}

pub(super) struct Response {
    pub(super) id: String,
    pub(super) outcome: Result<Box<RawValue>, Box<ErrorShape>>,
}

pub(super) enum Incoming {
    Response(Response),
    Event(Event),
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    ok: bool,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Box<ErrorShape>>,
    #[serde(default, borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<u64>,
}

impl Incoming {
    /// `None` for what is neither a response nor an event: newer gateways may send more.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let frame: Frame<'_> = serde_json::from_str(text).ok()?;
        match &*frame.kind {
            "res" => {
                let id = frame.id?.into_owned();
                let outcome = match (frame.ok, frame.error) {
                    (true, _) => Ok(frame.payload.unwrap_or(RawValue::NULL).to_owned()),
                    (false, Some(error)) => Err(error),
                    (false, None) => Err(Box::new(ErrorShape::new(ErrorCode::Unknown, "no reason given"))),
                };
                Some(Self::Response(Response { id, outcome }))
            }
            "event" => Some(Self::Event(Event {
                name: frame.event?.into_owned(),
                payload: frame.payload.map(ToOwned::to_owned),
                seq: frame.seq,
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_and_events_are_told_apart() {
        let Some(Incoming::Response(response)) =
            Incoming::parse(r#"{"type":"res","id":"1","ok":true,"payload":[1]}"#)
        else {
            panic!("no response");
        };
        assert_eq!(response.outcome.unwrap().get(), "[1]");
        let Some(Incoming::Event(event)) =
            Incoming::parse(r#"{"type":"event","event":"tick","payload":{"ts":1},"seq":4}"#)
        else {
            panic!("no event");
        };
        assert_eq!((event.name.as_str(), event.seq), ("tick", Some(4)));
        assert!(Incoming::parse(r#"{"type":"hologram"}"#).is_none());
        assert!(Incoming::parse("nonsense").is_none());
    }

    #[test]
    fn a_missing_payload_is_null_and_an_unknown_error_code_is_kept() {
        let Some(Incoming::Response(response)) = Incoming::parse(r#"{"type":"res","id":"1","ok":true}"#)
        else {
            panic!("no response");
        };
        assert_eq!(response.outcome.unwrap().get(), "null");
        let text = r#"{"type":"res","id":"1","ok":false,"error":{"code":"NEW","message":"m"}}"#;
        let Some(Incoming::Response(response)) = Incoming::parse(text) else { panic!("no response") };
        assert_eq!(response.outcome.unwrap_err().message, "m");
    }
}
