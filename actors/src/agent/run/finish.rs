//! The end of a run: transcript, outbox, session and ingress in one transaction, then the news of it.

use super::{Ended, LOOK_BACK, Run, own_words};
use crate::agent::media::StoredMedia;
use crate::agent::providers::model::{AssistantMessage, Block, ChatMessage, StopReason, Usage, text_of};
use crate::clock::now_ms;
use crate::inbound::{OutboundMedia, OutboundMessage, RunOutcome};
use crate::store::{NewMessage, NewOutbound, RunEnd, SessionUpdate, StoreError, TranscriptRow};
use serde_json::json;

impl Run<'_> {
    /// Stores how the run ended and tells everyone.
    pub(super) async fn finish(mut self, ended: Ended) -> Result<RunOutcome, StoreError> {
        let rows = self.shop.gateway.store.transcript(&self.session.session_id, LOOK_BACK).await?;
        let own: Vec<TranscriptRow> = rows.into_iter().filter(|row| self.is_own(row)).collect();
        let mut usage = used(&own);
        if let Ended::Answered(answer) = &ended {
            usage.add(&answer.usage);
        }
        let stored = self.collect_media(&own, &ended);
        let text = self.final_text(&ended, &own);
        let outcome = self.outcome(&ended, &text, &stored, usage);
        let row = self.last_row(&ended, &text);
        let outbox = self.outbox(&ended, &text, &stored).await;
        let end = RunEnd {
            ingress_id: self.ingress_id,
            joined: self.joined().iter().map(|row| row.id).collect(),
            session_key: self.session.key.clone(),
            session_id: self.session.session_id.clone(),
            messages: row.clone().into_iter().collect(),
            outbox,
            update: self.update(&ended, usage),
            outcome: outcome.clone(),
        };
        self.shop.gateway.store.finish_run(end).await?;
        self.announce(&ended, &text, row, &own).await;
        Ok(outcome)
    }

    /// What the person reads.
    fn final_text(&self, ended: &Ended, own: &[TranscriptRow]) -> String {
        match ended {
            Ended::Replied(text) | Ended::Failed(text, _) => text.clone(),
            Ended::Stopped(_) => self.feed.partial(),
            Ended::Answered(answer) => {
                let mut text = text_of(&answer.content).trim().to_owned();
                if text.is_empty() {
                    // Some models say everything before their last tool call.
                    text = own.iter().rev().find_map(said).unwrap_or_default();
                }
                match answer.stop_reason {
                    StopReason::Refusal if text.is_empty() => text.push_str("The model declined to answer."),
                    StopReason::Length => {
                        text.push_str("\n\n(The answer reached its length limit and ends here.)")
                    }
                    _ if text.is_empty() => text.push_str("(The model gave no answer.)"),
                    _ => {}
                }
                text
            }
        }
    }

    fn outcome(&self, ended: &Ended, text: &str, media: &[StoredMedia], usage: Usage) -> RunOutcome {
        let duration = now_ms() - self.feed.started_at();
        let ok = |answer: &AssistantMessage| RunOutcome::Ok {
            text: text.to_owned(),
            media: media.iter().map(|stored| stored.path.clone()).collect(),
            meta: json!({
                "durationMs": duration,
                "agentMeta": {
                    "sessionId": self.session.session_id, "provider": answer.provider, "model": answer.model, "usage": usage,
                },
                "aborted": false,
                "stopReason": answer.stop_reason,
            }),
        };
        match ended {
            Ended::Answered(answer) => ok(answer),
            Ended::Replied(text) => ok(&own_words(text)),
            Ended::Failed(sentence, _) => RunOutcome::Error { message: sentence.clone() },
            Ended::Stopped(reason) => RunOutcome::Aborted { reason: (*reason).to_owned() },
        }
    }

    /// The last row of the transcript; a run that was stopped before it said anything has none.
    fn last_row(&self, ended: &Ended, text: &str) -> Option<NewMessage> {
        let (answer, of_gateway) = match ended {
            Ended::Answered(answer) => (answer.clone(), false),
            Ended::Replied(text) => (own_words(text), true),
            Ended::Failed(sentence, detail) => {
                let words = own_words(&format!("⚠️ {sentence}"));
                let error_message = Some(detail.clone());
                (AssistantMessage { stop_reason: StopReason::Error, error_message, ..words }, true)
            }
            Ended::Stopped(_) if text.trim().is_empty() => return None,
            Ended::Stopped(_) => {
                (AssistantMessage { stop_reason: StopReason::Aborted, ..own_words(text) }, false)
            }
        };
        let mut message = json!(ChatMessage::Assistant(answer));
        message["idempotencyKey"] = json!(format!("{}:assistant", self.inbound.run_id));
        if of_gateway {
            message["gatewayCommand"] = json!(true);
        }
        if let Ended::Stopped(reason) = ended {
            message["openclawAbort"] =
                json!({"aborted": true, "origin": reason, "runId": self.inbound.run_id});
        }
        let run_id = Some(self.inbound.run_id.clone());
        Some(NewMessage { message_id: self.row_id("assistant"), run_id, role: "assistant", message })
    }

    /// Files that tools returned in this run, but for those that the agent sent to this chat itself.
    fn collect_media(&self, own: &[TranscriptRow], ended: &Ended) -> Vec<StoredMedia> {
        if matches!(ended, Ended::Stopped(_)) {
            return Vec::new();
        }
        let listed = |name: &'static str| {
            let results = own.iter().filter(|row| row.role == "toolResult");
            results.flat_map(move |row| row.message["details"][name].as_array().into_iter().flatten())
        };
        let sent: Vec<&str> = listed("sentHere").filter_map(|path| path.as_str()).collect();
        let returned = listed("media").filter_map(StoredMedia::from_json);
        let returned = returned.filter(|file| !sent.contains(&file.path.as_str()));
        returned.chain(self.files.iter().cloned()).collect()
    }

    async fn outbox(&self, ended: &Ended, text: &str, stored: &[StoredMedia]) -> Vec<NewOutbound> {
        let Some(route) = self.inbound.route.clone().filter(|_| !matches!(ended, Ended::Stopped(_))) else {
            return Vec::new();
        };
        let mut media: Vec<OutboundMedia> = Vec::new();
        for file in stored {
            media.extend(self.media.outbound(file).await);
        }
        let prefix = self.settings.messages.response_prefix.as_deref().filter(|prefix| !prefix.is_empty());
        let text = match (ended, prefix) {
            (Ended::Failed(sentence, _), _) => format!("⚠️ {sentence}"),
            (Ended::Answered(_), Some(prefix)) => format!("{prefix} {text}"),
            _ => text.to_owned(),
        };
        let message =
            OutboundMessage { text: Some(text), media, reply_to: route.reply_to.clone(), silent: false };
        vec![NewOutbound {
            key: format!("run:{}", self.inbound.run_id),
            route,
            run_id: Some(self.inbound.run_id.clone()),
            message,
        }]
    }

    fn update(&mut self, ended: &Ended, usage: Usage) -> SessionUpdate {
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let (status, last) = match ended {
            Ended::Answered(answer) => ("done", Some(answer)),
            Ended::Replied(_) => ("done", None),
            Ended::Failed(..) => ("failed", None),
            Ended::Stopped(_) => ("aborted", None),
        };
        let update = SessionUpdate {
            status: Some(status),
            model: last.map(|answer| format!("{}/{}", answer.provider, answer.model)),
            last_run_id: Some(self.inbound.run_id.clone()),
            input_tokens: count(usage.prompt()),
            output_tokens: count(usage.output),
            total_tokens: last.map(|answer| count(answer.usage.total_tokens)).filter(|tokens| *tokens > 0),
            title: None,
            started_at: None,
            ended_at: Some(now_ms()),
        };
        self.session.input_tokens = self.session.input_tokens.saturating_add(update.input_tokens);
        self.session.output_tokens = self.session.output_tokens.saturating_add(update.output_tokens);
        self.session.total_tokens = update.total_tokens.unwrap_or(self.session.total_tokens);
        update
    }

    async fn announce(&self, ended: &Ended, text: &str, row: Option<NewMessage>, own: &[TranscriptRow]) {
        if let Some(route) = self.inbound.route.as_ref().filter(|_| !matches!(ended, Ended::Stopped(_))) {
            self.shop.channels.flush(&route.channel, &route.account);
        }
        self.feed.flush();
        let view = self.session_view(false);
        if let Some(row) = row {
            let tail =
                self.shop.gateway.store.transcript(&self.session.session_id, 5).await.unwrap_or_default();
            if let Some(stored) = tail.iter().find(|stored| stored.message_id == row.message_id) {
                self.feed.row(&row.message_id, stored.seq, &row.message, &view);
            }
        }
        match ended {
            Ended::Answered(answer) => {
                self.feed.usage(answer.usage.output);
                self.feed.finished(answer, text, &tools_used(own));
            }
            Ended::Replied(words) => self.feed.finished(&own_words(words), words, &[]),
            Ended::Failed(sentence, detail) => {
                tracing::warn!(run = %self.inbound.run_id, %detail, "run failed");
                self.feed.failed(sentence, detail);
            }
            Ended::Stopped(reason) => self.feed.aborted(reason),
        }
        for row in self.joined() {
            match ended {
                Ended::Failed(sentence, _) => {
                    self.feed.joined(&row.inbound.run_id, "error", json!({"errorMessage": sentence}));
                }
                Ended::Stopped(reason) => {
                    self.feed.joined(&row.inbound.run_id, "aborted", json!({"stopReason": reason}));
                }
                _ => self.feed.joined(&row.inbound.run_id, "final", json!({"stopReason": "stop"})),
            }
        }
        self.feed.session_changed(("reason", "agent.input.settled"), &view);
        let phase = if matches!(ended, Ended::Failed(..)) { "error" } else { "end" };
        self.feed.session_changed(("phase", phase), &view);
    }
}

/// Tokens of the answers that are in the transcript already.
fn used(own: &[TranscriptRow]) -> Usage {
    let mut usage = Usage::default();
    for row in own.iter().filter(|row| row.role == "assistant") {
        usage.add(&serde_json::from_value(row.message["usage"].clone()).unwrap_or_default());
    }
    usage
}

fn said(row: &TranscriptRow) -> Option<String> {
    let content = row.message["content"].as_array().filter(|_| row.role == "assistant")?;
    let blocks: Vec<Block> =
        content.iter().filter_map(|block| serde_json::from_value(block.clone()).ok()).collect();
    let text = text_of(&blocks).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn tools_used(own: &[TranscriptRow]) -> Vec<String> {
    let worked = own.iter().filter(|row| row.role == "toolResult" && row.message["isError"] == false);
    let mut names: Vec<String> =
        worked.filter_map(|row| row.message["toolName"].as_str().map(str::to_owned)).collect();
    names.dedup();
    names
}
