//! A run that is told to stop before it has noted what it was asked.

use super::{Intake, LOOK_BACK, Run, message_id_of};
use crate::agent::{INTERRUPTED, command_of};
use crate::commands::Command;
use crate::store::StoreError;
use std::time::Duration;

/// How long a run that was interrupted still waits for the files of its message.
const FILE_PATIENCE: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// What a stopped run had no time to note enters the transcript all the same: the next run has to know of it.
    pub(super) async fn leave_on_record(&mut self, reason: &'static str) -> Result<(), StoreError> {
        match command_of(&self.settings, &self.inbound) {
            Some(Command::New(words)) => {
                self.start_afresh().await?;
                if words.is_empty() {
                    return self.note_command().await;
                }
                self.inbound.text = words;
            }
            Some(_) => return self.note_command().await,
            None => {}
        }
        let rows = self.shop.gateway.store.transcript(&self.session.session_id, LOOK_BACK).await?;
        let joined = self.joined();
        for inbound in std::iter::once(&self.inbound).chain(joined.iter().map(|row| &row.inbound)) {
            if rows.iter().any(|row| row.message_id == message_id_of(inbound)) {
                continue;
            }
            // Whoever wrote on will have the files looked at; whoever said stop waits for none.
            let patience = if reason == INTERRUPTED { FILE_PATIENCE } else { Duration::ZERO };
            let blocks = tokio::time::timeout(patience, self.intake().blocks(inbound)).await;
            self.note(inbound, blocks.unwrap_or_else(|_| Intake::left_out(inbound))).await?;
        }
        Ok(())
    }
}
