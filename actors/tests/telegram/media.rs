//! Files in both directions.

use crate::bench::{Bench, route};
use crate::fake_telegram::Fault;
use serde_json::json;
use tidegate_actors::channels::{FetchError, FetchMedia};
use tidegate_actors::inbound::{AttachmentSource, MediaKind, OutboundMedia, OutboundMessage};

fn open() -> serde_json::Value {
    json!({"dmPolicy": "open", "allowFrom": ["*"]})
}

fn wanted(file_id: &str) -> FetchMedia {
    FetchMedia { file_id: file_id.into(), file_name: Some("notes.txt".into()), mime: "text/plain".into() }
}

#[actix::test]
async fn a_voice_note_is_announced_and_fetched_when_wanted() {
    let bench = Bench::start(open()).await.ready().await;
    let id = bench.fake.add_file("note.oga", vec![7; 300_000]);
    let voice = json!({"file_id": id, "file_unique_id": "u", "duration": 3, "mime_type": "audio/ogg", "file_size": 300_000});
    bench.fake.message(555, 555, json!({"voice": voice}));
    bench.until("it arrives", |bench| bench.rows().len() == 1).await;
    let attachment = bench.rows()[0].inbound.attachments[0].clone();
    assert_eq!((attachment.kind, attachment.size), (MediaKind::Voice, Some(300_000)));
    let AttachmentSource::Channel { file_id } = attachment.source else { panic!("not at the channel") };
    assert!(bench.fake.calls_of("getFile").is_empty());
    let fetched = bench.gateway.channels.fetch("telegram", "default", wanted(&file_id)).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), vec![7; 300_000]);
    assert!(fetched.path.starts_with(bench.gateway.settings.paths().media()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&fetched.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[actix::test]
async fn a_line_that_drops_for_a_moment_loses_no_file() {
    let bench = Bench::start(open()).await.ready().await;
    let id = bench.fake.add_file("notes.txt", b"notes".to_vec());
    for (method, fault) in [
        ("getFile", Fault::Page { code: 502 }),
        ("getFile", Fault::Flood { retry_after: 1 }),
        ("getFile", Fault::DropBefore),
        ("file", Fault::Page { code: 502 }),
        ("file", Fault::DropBefore),
    ] {
        bench.fake.fail(method, fault.clone());
        let fetched = bench.gateway.channels.fetch("telegram", "default", wanted(&id)).await;
        assert_eq!(std::fs::read(fetched.unwrap().path).unwrap(), b"notes", "{method} {fault:?}");
    }
    bench.fake.fail_always("file", Fault::Page { code: 502 });
    let failed = bench.gateway.channels.fetch("telegram", "default", wanted(&id)).await.unwrap_err();
    assert!(failed.to_string().contains("502"), "{failed}");
    bench.fake.heal();
    let before = bench.fake.calls_of("getFile").len();
    bench.gateway.channels.fetch("telegram", "default", wanted("nope")).await.unwrap_err();
    assert_eq!(bench.fake.calls_of("getFile").len(), before + 1, "what is refused is not asked for again");
}

#[actix::test]
async fn a_file_over_the_limit_is_refused_and_leaves_nothing_behind() {
    let bench =
        Bench::start(json!({"dmPolicy": "open", "allowFrom": ["*"], "mediaMaxMb": 1})).await.ready().await;
    let large = bench.fake.add_file("large.bin", vec![0; 2 * 1024 * 1024]);
    let error = bench.gateway.channels.fetch("telegram", "default", wanted(&large)).await.unwrap_err();
    assert_eq!(error, FetchError::TooLarge { limit_mib: 1 });
    let huge = bench.fake.add_file("huge.bin", vec![0; 21 * 1024 * 1024]);
    let error = bench.gateway.channels.fetch("telegram", "default", wanted(&huge)).await.unwrap_err();
    assert_eq!(error, FetchError::TooLarge { limit_mib: 1 });
    let missing = bench.gateway.channels.fetch("telegram", "default", wanted("nope")).await.unwrap_err();
    assert!(matches!(missing, FetchError::Failed(_)) && !missing.to_string().contains(bench.fake.token()));
    let left = std::fs::read_dir(bench.gateway.settings.paths().media()).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[actix::test]
async fn an_answer_brings_its_files_and_tidies_up() {
    let bench = Bench::start(open()).await.ready().await;
    let file = |kind, mime: &str, name: &str, caption: Option<&str>| OutboundMedia {
        kind,
        mime: mime.into(),
        file_name: Some(name.into()),
        // As the agent names it: within the folder.
        path: bench.media(name, b"content").file_name().unwrap().to_string_lossy().into_owned(),
        caption: caption.map(str::to_owned),
    };
    let media = vec![
        file(MediaKind::Image, "image/png", "shot.png", Some("**the** camera")),
        file(MediaKind::Voice, "audio/ogg", "note.ogg", None),
        file(MediaKind::Document, "application/pdf", "plan.pdf", None),
    ];
    let message = OutboundMessage { text: Some("here".into()), media, ..OutboundMessage::default() };
    bench.post("r1", &route(555, None), message).await;
    bench.delivered_as("r1", "sent").await;
    let shown = bench.fake.shown(555);
    let kinds: Vec<_> = shown.iter().map(|message| message.kind.as_str()).collect();
    assert_eq!(kinds, ["text", "photo", "voice", "document"]);
    assert_eq!((shown[1].text.as_str(), shown[1].entities.len()), ("the camera", 1));
    assert_eq!(
        (shown[3].file_name.as_deref(), shown[3].file.as_slice()),
        (Some("plan.pdf"), &b"content"[..])
    );
    bench
        .until("the files are gone", |bench| {
            std::fs::read_dir(bench.gateway.settings.paths().media()).map_or(0, Iterator::count) == 0
        })
        .await;
    assert_eq!(bench.fake.unknown_params(), Vec::<String>::new());
}

#[actix::test]
async fn a_photo_that_telegram_does_not_take_goes_as_a_document() {
    let bench = Bench::start(open()).await.ready().await;
    bench
        .fake
        .fail("sendPhoto", Fault::Refuse { code: 400, description: "Bad Request: PHOTO_INVALID_DIMENSIONS" });
    let path = bench.media("odd.png", b"odd").to_string_lossy().into_owned();
    let media = vec![OutboundMedia {
        kind: MediaKind::Image,
        mime: "image/png".into(),
        file_name: None,
        path,
        caption: None,
    }];
    bench.post("r1", &route(555, None), OutboundMessage { media, ..OutboundMessage::default() }).await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(bench.fake.shown(555)[0].kind, "document");
}

#[actix::test]
async fn a_file_too_large_for_telegram_is_said_in_words() {
    let bench = Bench::start(json!({"mediaMaxMb": 1})).await.ready().await;
    let path = bench.media("big.bin", &vec![1; 2 * 1024 * 1024]).to_string_lossy().into_owned();
    let media = vec![OutboundMedia {
        kind: MediaKind::Document,
        mime: "application/octet-stream".into(),
        file_name: Some("big.bin".into()),
        path,
        caption: None,
    }];
    bench.post("r1", &route(555, None), OutboundMessage { media, ..OutboundMessage::default() }).await;
    bench.delivered_as("r1", "sent").await;
    assert_eq!(
        bench.fake.shown_texts(555),
        ["big.bin is too large to send here: 2 MiB, and the limit is 1 MiB."]
    );
}
