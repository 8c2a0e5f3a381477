//! Makes a conversation fit: first what is old becomes shorter, then it goes, and what was asked last stays.

use super::{Entry, History, is_user, tokens_of};
use crate::agent::providers::model::{Block, ChatMessage, Content};

/// A tool result that the model has answered already is cut to this when room is needed.
const OLD_RESULT: usize = 1500;
/// Nothing is cut shorter than this: a note about less would be longer than what it stands for.
const LEAST: usize = 200;
/// Stands where something was cut off.
const CUT: &str = "\n[the rest is left out: there is no room for it here]";

impl History {
    /// Cuts the results of old turns short until `budget` holds or there is nothing to cut.
    pub(in crate::agent) fn shorten_old_results(&mut self, budget: usize) {
        let turn = self.turn();
        self.shorten(..turn, budget);
    }

    /// Holds `budget`, whatever it takes, as long as the person's newest words fit. The newest turn counts too: a long
    /// tool loop outgrows any window by itself.
    pub(in crate::agent) fn fit(&mut self, budget: usize) {
        self.shorten_old_results(budget);
        self.shorten(self.turn()..self.newest_step(), budget);
        self.drop_oldest(budget);
        self.leave_out_steps(budget);
        self.share_room(self.newest_step(), budget);
        self.share_room(self.turn(), budget);
    }

    /// Leaves out the oldest turns until `budget` holds; the newest turn always stays.
    fn drop_oldest(&mut self, budget: usize) {
        let mut total = self.tokens();
        let turn = self.turn();
        let mut drop = 0;
        while total > budget && drop < turn {
            total -= tokens_of(&self.entries[drop].message);
            drop += 1;
        }
        // A turn goes as a whole, or results would stand without their calls.
        while drop > 0 && drop < turn && !is_user(&self.entries[drop].message) {
            drop += 1;
        }
        self.entries.drain(..drop);
    }

    /// Leaves out the oldest steps of the newest turn, each a call with its results, and says so in the person's
    /// message. The newest step is given half of the budget before anything of it is cut.
    fn leave_out_steps(&mut self, budget: usize) {
        let first = self.entries.iter().rposition(|entry| is_user(&entry.message)).map_or(0, |at| at + 1);
        let newest = self.newest_step();
        let mut room = self.tokens_from(0, newest) + self.tokens_from(newest, usize::MAX).min(budget / 2);
        let (mut end, mut steps) = (first, 0);
        while end < newest && (room > budget || !is_step(&self.entries[end])) {
            room = room.saturating_sub(tokens_of(&self.entries[end].message));
            steps += usize::from(is_step(&self.entries[end]));
            end += 1;
        }
        if steps == 0 {
            return;
        }
        self.entries.drain(first..end);
        if let Some(Entry { message: ChatMessage::User { content, .. }, .. }) =
            self.entries[..first].last_mut()
        {
            let note = format!(
                "\n[{steps} earlier steps of the work on this are left out: there is no room for them]"
            );
            match content {
                Content::Text(text) => text.push_str(&note),
                Content::Blocks(blocks) => blocks.push(Block::text(note)),
            }
        }
    }

    /// Cuts texts from `from` on so that all together hold `budget`: the longest ones first.
    fn share_room(&mut self, from: usize, budget: usize) {
        let others = self.tokens_from(0, from);
        let mut limit = budget.saturating_sub(others).saturating_mul(4);
        while self.tokens() > budget && limit >= LEAST {
            for entry in &mut self.entries[from..] {
                cut(&mut entry.message, limit);
            }
            limit /= 2;
        }
    }

    fn shorten(&mut self, range: impl std::slice::SliceIndex<[Entry], Output = [Entry]>, budget: usize) {
        let mut total = self.tokens();
        for entry in &mut self.entries[range] {
            if total <= budget {
                return;
            }
            let before = tokens_of(&entry.message);
            if matches!(entry.message, ChatMessage::ToolResult { .. }) {
                cut(&mut entry.message, OLD_RESULT);
            }
            total = total - before + tokens_of(&entry.message);
        }
    }

    /// Where the newest turn begins: at the first of the messages that were not answered when its work began.
    fn turn(&self) -> usize {
        let Some(last) = self.entries.iter().rposition(|entry| is_user(&entry.message)) else { return 0 };
        let before = self.entries[..last].iter().rposition(|entry| !is_user(&entry.message));
        before.map_or(0, |at| at + 1)
    }

    /// Where the newest answer with its results begins; the end, when the newest turn has none yet.
    fn newest_step(&self) -> usize {
        let turn = self.turn();
        let step = self.entries[turn..].iter().rposition(is_step);
        step.map_or(self.entries.len(), |at| turn + at)
    }

    fn tokens_from(&self, from: usize, to: usize) -> usize {
        let to = to.min(self.entries.len());
        self.entries[from..to].iter().map(|entry| tokens_of(&entry.message)).sum()
    }
}

fn is_step(entry: &Entry) -> bool {
    matches!(entry.message, ChatMessage::Assistant(_))
}

/// Cuts what a person or a tool said; a model's own words and calls must stay as they were.
fn cut(message: &mut ChatMessage, limit: usize) {
    match message {
        ChatMessage::User { content: Content::Text(text), .. } => cut_text(text, limit),
        ChatMessage::User { content: Content::Blocks(blocks), .. }
        | ChatMessage::ToolResult { content: blocks, .. } => {
            for block in blocks {
                match block {
                    Block::Text { text } => cut_text(text, limit),
                    Block::Image { .. } => *block = Block::text("[a picture that was shown earlier]"),
                    Block::File { .. } => *block = Block::text("[a file that was shown earlier]"),
                    _ => {}
                }
            }
        }
        ChatMessage::Assistant(_) | ChatMessage::Summary { .. } => {}
    }
}

fn cut_text(text: &mut String, limit: usize) {
    if text.len() > limit + CUT.len() {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(CUT);
    }
}
