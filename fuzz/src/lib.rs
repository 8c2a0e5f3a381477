//! What must hold for any bytes at all. Plain functions: the fuzz targets call them, and so does the ordinary test
//! `protocol/tests/any_bytes.rs`, with proptest in the place of the fuzzer.
//!
//! To fuzz (needs nightly and `cargo install cargo-fuzz`), from the root of the repository:
//! `cargo +nightly fuzz run request_frame fuzz/corpus/request_frame fuzz/seeds/request_frame`.

use serde_json::Value;
use serde_json::value::RawValue;
use tidegate_protocol::connect::ConnectParams;
use tidegate_protocol::error::{ErrorCode, ErrorShape};
use tidegate_protocol::frame::{self, FrameError, Incoming, Request};

/// Whatever a socket sends, there is an answer to it that its sender can read and match.
pub fn request_frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Request::parse(text) {
        Ok(request) => {
            assert!(!request.id.is_empty() && !request.method.is_empty());
            survives_the_wire(&request);
            can_be_answered(&request.id);
        }
        Err(FrameError::NotJson) => assert!(serde_json::from_str::<Value>(text).is_err(), "{text} is JSON"),
        Err(FrameError::NotRequest { id, problem }) => {
            assert!(!problem.is_empty());
            let answer = frame::response_error_raw_id(id.as_deref(), &ErrorShape::invalid(problem));
            let answer: Value = serde_json::from_str(&answer).expect("the refusal is JSON");
            assert_eq!(answer["ok"], Value::Bool(false));
        }
    }
}

fn survives_the_wire(request: &Request) {
    let again = frame::request(&request.id, &request.method, request.params.as_deref());
    let again = Request::parse(&again).expect("what we write, we read");
    assert_eq!((&again.id, &again.method), (&request.id, &request.method));
    let texts = [&again.params, &request.params].map(|params| params.as_deref().map(RawValue::get));
    assert_eq!(texts[0], texts[1], "params are carried as they came");
}

fn can_be_answered(id: &str) {
    let refusal = frame::response_error(id, &ErrorShape::invalid("no"));
    for answer in [refusal, frame::response_ok(id, RawValue::NULL)] {
        match serde_json::from_str(&answer) {
            Ok(Incoming::Res(response)) => assert_eq!(response.id, id),
            other => panic!("{answer} reads as {other:?}"),
        }
    }
}

/// Params of `connect` are refused in our own words, or mean the same after they were written and read again.
pub fn connect_params(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
    match ConnectParams::parse(Some(raw)) {
        Ok(params) => {
            let written = serde_json::value::to_raw_value(&params).expect("plain data");
            assert_eq!(ConnectParams::parse(Some(&written)).expect("what we write, we read"), params);
        }
        Err(error) => {
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.starts_with("invalid connect params: "), "{}", error.message);
        }
    }
}

/// A client reads whatever a gateway sends without falling over.
pub fn incoming_frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Incoming::Res(response)) = serde_json::from_str(text) {
        assert!(serde_json::from_str::<Value>(text).is_ok());
        drop(response);
    }
}
