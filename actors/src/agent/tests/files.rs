//! Files that people send and nodes return: what the model learns of them, and where they can go.

use super::*;
use crate::agent::fake_models::Answer;
use crate::inbound::{Attachment, AttachmentSource, MediaKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A message with files; what the channel has of each.
fn with_files(world: &World, text: &str, files: &[(MediaKind, &str, &str, &[u8])]) -> Inbound {
    let mut inbound = message(text);
    for (kind, mime, name, bytes) in files {
        let file_id = format!("id-{name}");
        world.channels.files.borrow_mut().insert(file_id.clone(), bytes.to_vec());
        inbound.attachments.push(Attachment {
            kind: *kind,
            mime: (*mime).into(),
            file_name: (!name.is_empty()).then(|| (*name).to_owned()),
            size: Some(bytes.len() as u64),
            source: AttachmentSource::Channel { file_id },
        });
    }
    inbound
}

const VOICE: (MediaKind, &str, &str, &[u8]) = (MediaKind::Voice, "audio/ogg", "", b"OggS voice");
const PDF: (MediaKind, &str, &str, &[u8]) =
    (MediaKind::Document, "application/pdf", "plan.pdf", b"%PDF-1.7 x");

impl World {
    async fn receive(&self, files: &[(MediaKind, &str, &str, &[u8])]) {
        let run_id = self.accept(with_files(self, "look", files)).await;
        assert!(matches!(self.end(&run_id).await, RunStatus::Ok { .. }));
        assert_eq!(self.models.refusals(), Vec::<String>::new());
    }

    /// The parts of the newest message to the model.
    fn parts(&self) -> Vec<Value> {
        let body = self.models.last().body;
        let messages = body["messages"].as_array().unwrap();
        messages[messages.len() - 1]["content"].as_array().unwrap().clone()
    }

    /// The name that a file is stored as, by what the model was told.
    fn stored_name(&self) -> String {
        let told = Value::from(self.parts()).to_string();
        let (_, rest) = told.split_once("stored as `").unwrap();
        rest.split_once('`').unwrap().0.to_owned()
    }

    fn media(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.gateway.settings.paths().media().join(name)).unwrap()
    }
}

fn takes(input: &[&str]) -> Value {
    json!({"models": {"providers": {"fake": {"models": [{"id": "m", "input": input}]}}}})
}

#[actix::test]
async fn a_voice_note_is_stored_and_told_of_to_a_model_that_cannot_hear() {
    let world = World::new();
    world.receive(&[VOICE]).await;
    assert_eq!(world.media(&world.stored_name()), VOICE.3);
    assert!(world.stored_name().ends_with(".ogg"));
    let parts = world.parts();
    let label = parts[1]["text"].as_str().unwrap();
    assert!(label.starts_with("[Attached voice message, audio/ogg, 1 kB; stored as `"), "{label}");
    assert!(parts[2]["text"].as_str().unwrap().contains("this model can't hear"));
}

#[actix::test]
async fn a_model_that_hears_is_given_the_sound_and_one_that_reads_the_document() {
    let world = World::with(takes(&["text", "image", "audio", "pdf"]));
    world.receive(&[VOICE, PDF]).await;
    let parts = world.parts();
    assert_eq!(parts[2]["input_audio"], json!({"data": STANDARD.encode(VOICE.3), "format": "ogg"}));
    let file = &parts[4]["file"];
    assert!(file["filename"].as_str().unwrap().ends_with("-plan.pdf"));
    assert_eq!(file["file_data"], format!("data:application/pdf;base64,{}", STANDARD.encode(PDF.3)));
}

#[actix::test]
async fn a_document_that_the_server_refuses_does_not_spoil_the_conversation() {
    let world = World::with(takes(&["text", "pdf"]));
    world.models.then(Answer::error(400, "the document is sealed"));
    world.receive(&[PDF]).await;
    let note = world.parts()[2]["text"].as_str().unwrap().to_owned();
    assert!(note.contains("refused"), "{note}");
}

#[actix::test]
async fn a_picture_has_a_name_too_and_any_other_file_is_kept_and_said_to_be_unread() {
    let world = World::new();
    let picture: &[u8] = &[0xFF, 0xD8, 0xFF, 0xE0, 1];
    let files = [
        (MediaKind::Image, "image/jpeg", "", picture),
        (MediaKind::Document, "application/zip", "a.zip", &b"PK"[..]),
    ];
    world.receive(&files).await;
    let parts = world.parts();
    assert!(world.stored_name().ends_with(".jpg"));
    let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(picture));
    assert_eq!(parts[2]["image_url"]["url"], url);
    let told = parts[3]["text"].as_str().unwrap();
    assert!(told.contains("-a.zip`") && told.contains("can't be read here"), "{told}");
}

#[actix::test]
async fn a_text_that_is_too_long_is_cut_with_a_note_and_kept_whole() {
    let world = World::new();
    let text = "line\n".repeat(20_000);
    world.receive(&[(MediaKind::Document, "text/plain", "long.txt", text.as_bytes())]).await;
    let told = world.parts()[1]["text"].as_str().unwrap().to_owned();
    assert!(told.contains("only its first 65536 bytes follow"), "{}", &told[..200]);
    assert!(told.ends_with("34464 of its 100000 bytes are left out here.]"));
    assert_eq!(world.media(&world.stored_name()), text.as_bytes());
}

#[actix::test]
async fn what_is_larger_than_allowed_is_not_fetched_and_said_so() {
    let world = World::with(json!({"agents": {"defaults": {"mediaMaxMb": 0.000_001}}}));
    let run_id = world.accept(with_files(&world, "look", &[PDF])).await;
    world.end(&run_id).await;
    let told = world.parts()[1]["text"].as_str().unwrap().to_owned();
    assert!(told.contains("not fetched") && told.contains("`plan.pdf`"), "{told}");
}

#[actix::test]
async fn a_file_that_a_person_sent_goes_on_to_a_node_and_back_to_a_chat() {
    let world = World::new();
    world.receive(&[PDF]).await;
    let name = world.stored_name();
    world.nodes.answer("file.write", json!({"path": "/tmp/plan.pdf", "size": 10}));
    let write = json!({"action": "invoke", "node": "pi", "invokeCommand": "file.write",
        "invokeParamsJson": "{\"path\":\"/tmp/plan.pdf\"}", "file": name});
    world.models.then(Answer::call("c1", "nodes", write));
    world.models.then(Answer::call("c2", "message", json!({"to": "777", "media": [name]})));
    world.models.then(Answer::text("done"));
    assert_eq!(world.answer("put it there").await, "done");
    let params = world.nodes.calls.borrow()[0].params.clone();
    assert_eq!(params, json!({"path": "/tmp/plan.pdf", "contentBase64": STANDARD.encode(PDF.3)}));
    let outbox = world.outbox().await;
    let sent = outbox.iter().find(|message| !message.media.is_empty()).unwrap();
    assert_eq!((sent.text.as_deref(), sent.media[0].kind), (None, MediaKind::Document));
    assert_eq!(
        (sent.media[0].file_name.as_deref(), sent.media[0].mime.as_str()),
        (Some("plan.pdf"), "application/pdf")
    );
    assert_eq!(world.media(&sent.media[0].path), PDF.3);
}

#[actix::test]
async fn a_sound_of_a_node_goes_as_a_voice_note_and_not_again_with_the_answer() {
    let world = World::new();
    world.nodes.answer("mic.record", json!({"format": "ogg", "base64": STANDARD.encode(VOICE.3)}));
    let record = json!({"action": "invoke", "node": "pi", "invokeCommand": "mic.record"});
    world.models.then(Answer::call("c1", "nodes", record));
    world.models.then_with(|body| {
        let body = body.to_string();
        let name = body.split_once("stored as `").unwrap().1.split_once('`').unwrap().0.to_owned();
        Answer::call("c2", "message", json!({"media": [name], "asVoice": true}))
    });
    world.models.then(Answer::text("done"));
    world.answer("what do you hear?").await;
    let outbox = world.outbox().await;
    assert_eq!((outbox[0].media[0].kind, outbox[0].media[0].mime.as_str()), (MediaKind::Voice, "audio/ogg"));
    assert_eq!((outbox.len(), outbox[1].media.len()), (2, 0));
}

#[actix::test]
async fn a_file_that_nobody_stored_and_a_voice_that_is_none_are_refused() {
    let world = World::new();
    let answer = world.answer("CALL message {\"media\":\"../tidegate.db\"}").await;
    assert!(answer.contains("no file is stored as"), "{answer}");
    world.receive(&[PDF]).await;
    let name = world.stored_name();
    let arguments = json!({"media": name, "asVoice": true});
    let answer = world.answer(&format!("CALL message {arguments}")).await;
    assert!(answer.contains("can't go as a voice note"), "{answer}");
    let answer = world.answer("CALL message {}").await;
    assert!(answer.contains("`message` or `media` is required"), "{answer}");
    assert!(world.outbox().await.iter().all(|message| message.media.is_empty()));
}
