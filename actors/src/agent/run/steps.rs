//! The loop of a run: ask the model, do what it calls for, ask again.

use super::{Ended, Run};
use crate::agent::clock::zone;
use crate::agent::compaction::{self, Budget};
use crate::agent::context::{History, MAX_ROWS, calls, text_tokens};
use crate::agent::feed::{DELTA_EVERY, Feed};
use crate::agent::prompt::system_prompt;
use crate::agent::providers::catalog::Candidate;
use crate::agent::providers::model::{
    AssistantMessage, Block, ChatMessage, Content, ModelEvent, ModelRequest, Thinking, ToolSpec,
};
use crate::agent::providers::{ModelError, TurnFailure, TurnObserver, complete};
use crate::agent::tools::{self, Toolbox};
use crate::clock::now_ms;
use crate::store::{StoreError, TranscriptRow};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Answers of the model in one run. A model that calls tools for ever is stopped here.
const MAX_TURNS: usize = 60;

/// A tool call that waits for its result.
#[derive(Debug, Clone, PartialEq)]
struct PendingCall {
    id: String,
    name: String,
    arguments: Map<String, Value>,
    invalid: Option<String>,
}

/// What a run does next, by what its transcript says.
enum Next {
    Ask,
    Call(Vec<PendingCall>),
    Done(AssistantMessage),
}

impl Run<'_> {
    /// Goes on until the model has answered.
    pub(super) async fn think(&mut self, candidates: Vec<Candidate>) -> Result<Ended, StoreError> {
        let tools = tools::specs(&self.settings, self.inbound.sender.owner);
        let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
        let settings = &self.shop.gateway.settings;
        let system = system_prompt(settings, &self.session.agent_id, &self.inbound, &names).await;
        let patience = self.inbound.timeout_ms.map(Duration::from_millis);
        let mut left = patience.unwrap_or_else(|| self.settings.agents.defaults.timeout());
        let mut turns = 0;
        loop {
            let mut rows = self.rows().await?;
            let next = self.next(&rows);
            let begun = || rows.iter().any(|row| self.is_own(row) && row.role == "assistant");
            if matches!(next, Next::Ask) && self.take_along(begun()).await? {
                rows = self.rows().await?;
            }
            match next {
                Next::Done(answer) => return Ok(Ended::Answered(answer)),
                Next::Call(pending) => self.call_tools(pending).await?,
                Next::Ask if turns == MAX_TURNS => {
                    let sentence = format!(
                        "The model called tools {MAX_TURNS} times without coming to an answer, so the run was ended."
                    );
                    return Ok(Ended::Failed(sentence, "too many turns".to_owned()));
                }
                Next::Ask => {
                    turns += 1;
                    let started = Instant::now();
                    let asked = self.ask(&candidates, &system, &tools, rows);
                    let Ok(outcome) = tokio::time::timeout(left, asked).await else {
                        let sentence = "The answer took longer than allowed and was given up.";
                        return Ok(Ended::Failed(sentence.to_owned(), "run timed out".to_owned()));
                    };
                    // Only the model's own time counts: a tool, or a person who approves, may take longer.
                    left = left.saturating_sub(started.elapsed());
                    match outcome? {
                        Ok(answer) if calls(&answer).is_empty() => return Ok(Ended::Answered(answer)),
                        Ok(answer) => self.note_answer(&answer).await?,
                        Err(failure) => return Ok(Ended::Failed(failure.sentence(), failure.to_string())),
                    }
                }
            }
        }
    }

    async fn rows(&self) -> Result<Vec<TranscriptRow>, StoreError> {
        self.shop.gateway.store.transcript(&self.session.session_id, MAX_ROWS).await
    }

    fn history(&self, rows: &[TranscriptRow]) -> History {
        let zone = zone(self.settings.agents.defaults.user_timezone.as_deref());
        History::from_rows(rows, &zone)
    }

    fn next(&self, rows: &[TranscriptRow]) -> Next {
        let last = rows.iter().rposition(|row| self.is_own(row) && row.role == "assistant");
        let Some(at) = last else { return Next::Ask };
        let Ok(ChatMessage::Assistant(answer)) = serde_json::from_value(rows[at].message.clone()) else {
            return Next::Ask;
        };
        let answered: Vec<&str> = rows[at..]
            .iter()
            .filter(|row| self.is_own(row) && row.role == "toolResult")
            .filter_map(|row| row.message["toolCallId"].as_str())
            .collect();
        let all: Vec<PendingCall> = answer.content.iter().filter_map(pending_call).collect();
        if all.is_empty() {
            return Next::Done(answer);
        }
        let open: Vec<PendingCall> =
            all.into_iter().filter(|call| !answered.contains(&call.id.as_str())).collect();
        if open.is_empty() { Next::Ask } else { Next::Call(open) }
    }

    /// Asks the model about the conversation so far. Makes room first where that is needed.
    async fn ask(
        &self,
        candidates: &[Candidate],
        system: &str,
        tools: &[ToolSpec],
        rows: Vec<TranscriptRow>,
    ) -> Result<Result<AssistantMessage, TurnFailure>, StoreError> {
        let used = used_ids(&rows, &self.inbound.run_id);
        let mut history = self.history(&rows);
        let fixed = text_tokens(system) + tools.iter().map(tool_tokens).sum::<usize>();
        let budget = self.budget(candidates, fixed);
        history.shorten_old_results(budget.history);
        if history.tokens() > budget.history {
            history = self.compact(history, candidates, budget.keep).await?;
            history.fit(budget.history);
        }
        let mut outcome = self.ask_once(candidates, system, tools, &history).await;
        if outcome.as_ref().is_err_and(TurnFailure::is_overflow) {
            // The estimate was wrong, or the model takes less than was believed.
            let half = history.tokens() / 2;
            history = self.compact(history, candidates, half / 2).await?;
            history.fit(half);
            outcome = self.ask_once(candidates, system, tools, &history).await;
        }
        Ok(outcome.map(|mut answer| {
            answer.timestamp = now_ms();
            make_ids_unique(&mut answer, used);
            answer
        }))
    }

    fn budget(&self, candidates: &[Candidate], fixed: usize) -> Budget {
        let defaults = &self.settings.agents.defaults;
        let smallest = candidates.iter().min_by_key(|candidate| candidate.context_tokens);
        let (reserve, keep) = (defaults.compaction.reserve_tokens, defaults.compaction.keep_recent_tokens);
        match smallest {
            Some(candidate) => Budget::of(candidate, defaults.context_tokens, reserve, keep, fixed),
            None => Budget { history: usize::MAX, keep: usize::MAX },
        }
    }

    async fn ask_once(
        &self,
        candidates: &[Candidate],
        system: &str,
        tools: &[ToolSpec],
        history: &History,
    ) -> Result<AssistantMessage, TurnFailure> {
        let mut messages = history.messages();
        for message in &mut messages {
            match message {
                ChatMessage::User { content: Content::Blocks(blocks), .. } => self.media.load(blocks).await,
                ChatMessage::ToolResult { content, .. } => self.media.load(content).await,
                _ => {}
            }
        }
        let request = ModelRequest {
            system: system.to_owned(),
            messages,
            tools: tools.to_vec(),
            thinking: self.thinking(),
            cache_key: Some(self.session.session_id.clone()),
            ..ModelRequest::default()
        };
        let mut listener = Listener { feed: self.feed.clone() };
        let mut answer = std::pin::pin!(complete(candidates, &request, self.shop.policy, &mut listener));
        let mut beat = tokio::time::interval(DELTA_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outcome = &mut answer => return outcome,
                _ = beat.tick() => self.feed.flush(),
            }
        }
    }

    fn thinking(&self) -> Thinking {
        let agents = &self.settings.agents;
        let own = agents.entry(&self.session.agent_id).and_then(|entry| entry.thinking_default.as_deref());
        let wanted = self.inbound.thinking.as_deref().or(own);
        wanted.or(agents.defaults.thinking_default.as_deref()).and_then(Thinking::parse).unwrap_or_default()
    }

    /// An answer that calls tools enters the transcript before anything is called.
    async fn note_answer(&self, answer: &AssistantMessage) -> Result<(), StoreError> {
        self.feed.flush();
        self.feed.usage(answer.usage.output);
        let name = calls(answer).first().map(|(id, _)| format!("a:{id}")).unwrap_or_default();
        self.append("assistant", &name, json!(ChatMessage::Assistant(answer.clone()))).await
    }

    async fn call_tools(&self, pending: Vec<PendingCall>) -> Result<(), StoreError> {
        for call in pending {
            let toolbox = Toolbox {
                gateway: &self.shop.gateway,
                settings: self.settings.clone(),
                nodes: &*self.shop.nodes,
                channels: &*self.shop.channels,
                media: &self.media,
                inbound: &self.inbound,
                agent_id: &self.session.agent_id,
                call_id: &call.id,
            };
            let started = now_ms();
            self.feed.tool_started(&call.id, &call.name, &call.arguments);
            let outcome = toolbox.run(&call.name, &call.arguments, call.invalid.as_deref()).await;
            tracing::info!(run = %self.inbound.run_id, tool = %call.name, failed = outcome.is_error,
                took_ms = now_ms() - started, "tool call ended");
            let result = ChatMessage::ToolResult {
                tool_call_id: call.id.clone(),
                tool_name: call.name.clone(),
                content: outcome.content.clone(),
                details: Some(outcome.details.clone()),
                is_error: outcome.is_error,
                timestamp: now_ms(),
            };
            self.append("toolResult", &format!("t:{}", call.id), json!(result)).await?;
            self.feed.tool_ended(&call.id, &call.name, &call.arguments, started, &outcome);
        }
        Ok(())
    }

    /// Replaces the older turns by a summary, which is stored. Without one the history comes back as it was.
    async fn compact(
        &self,
        history: History,
        candidates: &[Candidate],
        keep: usize,
    ) -> Result<History, StoreError> {
        let cut = history.cut_point(keep);
        let summary = compaction::summarise(&history, cut, &self.utility(candidates), self.shop.policy).await;
        match summary {
            Ok(Some(row)) => {
                let name = format!("summary:{}", row["upToSeq"]);
                self.append("summary", &name, row).await?;
                Ok(self.history(&self.rows().await?))
            }
            Ok(None) => Ok(history),
            Err(failure) => {
                tracing::warn!(session = %self.session.key, %failure, "a conversation could not be summarised");
                Ok(history)
            }
        }
    }

    /// The cheap model for summaries, if there is one, before the others.
    fn utility(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        use crate::agent::providers::catalog::{Catalog, process_env};
        let catalog = Catalog { settings: &self.settings, env: &process_env, ollama: &[] };
        let utility = self.settings.agents.defaults.utility_model.as_deref();
        let utility = utility.and_then(|name| catalog.candidate(name).ok());
        utility.into_iter().chain(candidates.iter().cloned()).collect()
    }

    /// `/compact`.
    pub(super) async fn compact_now(&mut self) -> Result<Ended, StoreError> {
        let candidates = match self.candidates().await {
            Ok(candidates) => candidates,
            Err(why) => return Ok(Ended::Failed(why.sentence(), why.to_string())),
        };
        let history = self.history(&self.rows().await?);
        let before = history.tokens();
        if history.entries.len() < 4 {
            return Ok(Ended::Replied("There is nothing to shorten yet.".to_owned()));
        }
        let after = self.compact(history, &candidates, before / 5).await?.tokens();
        if after >= before {
            let sentence = "The conversation could not be shortened; the log says why.";
            return Ok(Ended::Failed(sentence.to_owned(), "no shorter after compaction".to_owned()));
        }
        Ok(Ended::Replied(format!("Shortened from about {before} to about {after} tokens.")))
    }
}

/// Hands the stream on to the feed.
struct Listener {
    feed: Feed,
}

impl TurnObserver for Listener {
    fn asked(&mut self, candidate: &Candidate) {
        self.feed.asked(&candidate.account.provider, &candidate.model);
    }

    fn event(&mut self, event: &ModelEvent) {
        if let ModelEvent::TextDelta(delta) = event {
            self.feed.text(delta);
        }
    }

    fn failed(&mut self, error: &ModelError, pause: Option<Duration>) {
        if pause.is_none() {
            let detail =
                format!("{} {}", error.status.map(|s| s.to_string()).unwrap_or_default(), error.detail);
            self.feed.fell_back(&format!("{}/{}", error.provider, error.model), detail.trim());
        }
    }
}

fn pending_call(block: &Block) -> Option<PendingCall> {
    match block {
        Block::ToolCall { id, name, arguments, invalid_arguments } => Some(PendingCall {
            id: id.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
            invalid: invalid_arguments.clone(),
        }),
        _ => None,
    }
}

fn used_ids(rows: &[TranscriptRow], run_id: &str) -> Vec<String> {
    let own = rows.iter().filter(|row| row.role == "assistant" && row.run_id.as_deref() == Some(run_id));
    own.flat_map(|row| row.message["content"].as_array().into_iter().flatten())
        .filter_map(|block| block["id"].as_str().map(str::to_owned))
        .collect()
}

/// Some servers begin with `call_0` on every turn; a call's id is its key to run once, so it must be its own.
fn make_ids_unique(answer: &mut AssistantMessage, mut used: Vec<String>) {
    for block in &mut answer.content {
        let Block::ToolCall { id, .. } = block else { continue };
        while id.is_empty() || used.contains(id) {
            *id = format!("call_{}", uuid::Uuid::new_v4().simple());
        }
        used.push(id.clone());
    }
}

fn tool_tokens(tool: &ToolSpec) -> usize {
    text_tokens(&tool.description) + text_tokens(&tool.parameters.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_unique_within_the_run() {
        let call = |id: &str| Block::ToolCall {
            id: id.into(),
            name: "x".into(),
            arguments: Map::new(),
            invalid_arguments: None,
        };
        let mut answer = AssistantMessage {
            content: vec![call("call_0"), call(""), call("call_1")],
            ..AssistantMessage::default()
        };
        make_ids_unique(&mut answer, vec!["call_0".into()]);
        let ids: Vec<String> = calls(&answer).into_iter().map(|(id, _)| id).collect();
        assert!(ids[0] != "call_0" && !ids[1].is_empty() && ids[2] == "call_1");
    }
}
