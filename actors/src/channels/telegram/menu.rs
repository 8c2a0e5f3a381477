//! The command menu that Telegram shows beside the text field.

use super::line::Line;
use crate::commands::COMMANDS;
use crate::settings::telegram::CustomCommand;
use serde_json::{Value, json};

/// Telegram's limit.
const MAX_COMMANDS: usize = 100;

/// Puts the menu up. Only a convenience: when Telegram refuses it, the commands work all the same.
pub(super) async fn publish(line: &Line) {
    let commands = commands(&line.account().custom_commands);
    let scopes = [None, Some(json!({"type": "all_group_chats"}))];
    for scope in scopes {
        let mut params = json!({});
        if let Some(scope) = scope {
            params["scope"] = scope;
        }
        if let Err(error) = line.call::<bool>("deleteMyCommands", &params).await {
            tracing::debug!(account = line.name, %error, "old command menu not removed");
        }
        params["commands"] = commands.clone().into();
        if let Err(error) = line.call::<bool>("setMyCommands", &params).await {
            tracing::warn!(account = line.name, %error, "command menu not set");
        }
    }
}

fn commands(custom: &[CustomCommand]) -> Vec<Value> {
    let mut menu: Vec<(String, String)> =
        COMMANDS.iter().map(|known| (known.name.to_owned(), known.description.to_owned())).collect();
    for entry in custom {
        let name = entry.command.trim_start_matches('/').to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fits = (1..=32).contains(&name.len()) && name.chars().all(plain);
        let text: String = entry.description.trim().chars().take(256).collect();
        if !fits || text.is_empty() || menu.iter().any(|(taken, _)| *taken == name) {
            tracing::warn!(command = entry.command, "custom command left out of the menu");
            continue;
        }
        menu.push((name, text));
    }
    menu.truncate(MAX_COMMANDS);
    menu.into_iter()
        .map(|(command, description)| json!({"command": command, "description": description}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_commands_join_the_menu_unless_telegram_would_refuse_them() {
        let custom =
            |command: &str, text: &str| CustomCommand { command: command.into(), description: text.into() };
        let menu = commands(&[
            custom("/Backup", "Save"),
            custom("bad name", "x"),
            custom("help", "x"),
            custom("empty", ""),
        ]);
        let names: Vec<_> = menu.iter().filter_map(|entry| entry["command"].as_str()).collect();
        let own: Vec<_> = COMMANDS.iter().map(|known| known.name).collect();
        assert_eq!(names, [own.as_slice(), &["backup"]].concat());
    }
}
