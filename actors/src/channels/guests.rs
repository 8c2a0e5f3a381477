//! Who shares a conversation with whom: by default all direct messages go to one.

use super::TELEGRAM;
use crate::gateway::Gateway;
use crate::settings::Settings;
use crate::settings::messages::DmScope;
use crate::settings::telegram::DmPolicy;
use crate::store::StoreError;
use std::collections::BTreeSet;

/// What to tell operators when a guest's direct messages land in the owner's conversation; `None` when they don't.
///
/// # Errors
/// If the database can't be read.
pub async fn shared_conversation(gateway: &Gateway) -> Result<Option<String>, StoreError> {
    let settings = gateway.settings.get();
    if settings.session.dm_scope != DmScope::Main {
        return Ok(None);
    }
    let mut senders = BTreeSet::new();
    let accounts =
        settings.channels.telegram.as_ref().map(|telegram| telegram.resolved()).unwrap_or_default();
    for account in accounts.into_values().filter(|account| account.enabled) {
        match account.dm_policy {
            DmPolicy::Disabled => continue,
            DmPolicy::Pairing => {
                let paired = gateway.store.allowed_senders(TELEGRAM, &account.name).await?;
                senders.extend(paired.into_iter().map(|allowed| plain(&allowed.sender)));
            }
            DmPolicy::Allowlist | DmPolicy::Open => {}
        }
        senders.extend(account.allow_from.iter().map(|entry| plain(entry)));
    }
    Ok(has_guests(&settings, &senders).then(|| {
        "several people write to the bot, and all of them share one conversation with its owner and see what was \
         said there; set session.dmScope to \"per-channel-peer\" to keep them apart"
            .to_owned()
    }))
}

fn plain(entry: &str) -> String {
    super::telegram::sender_number(entry).map_or_else(|| entry.trim().to_owned(), |number| number.to_string())
}

fn has_guests(settings: &Settings, senders: &BTreeSet<String>) -> bool {
    let owners: Vec<String> = settings.commands.owner_allow_from.iter().map(|owner| plain(owner)).collect();
    let all_own = !owners.is_empty() && senders.iter().all(|sender| owners.contains(sender));
    senders.contains("*") || (senders.len() > 1 && !all_own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsHandle, StatePaths};
    use crate::store::Store;
    use serde_json::{Value, json};

    async fn warns(settings: Value) -> bool {
        let settings = serde_json::from_value(settings).unwrap();
        let handle = SettingsHandle::new(settings, StatePaths::new("unused"));
        let gateway = Gateway::new(handle, Store::temporary().unwrap());
        shared_conversation(&gateway).await.unwrap().is_some()
    }

    fn telegram(allow_from: Value) -> Value {
        json!({"telegram": {"botToken": "1:a", "dmPolicy": "allowlist", "allowFrom": allow_from}})
    }

    #[actix::test]
    async fn a_second_person_is_a_guest_unless_scopes_or_owners_say_otherwise() {
        assert!(!warns(json!({"channels": telegram(json!([5, "telegram:5"]))})).await);
        assert!(warns(json!({"channels": telegram(json!([5, 6]))})).await);
        assert!(warns(json!({"channels": telegram(json!(["*"]))})).await);
        let apart = json!({"dmScope": "per-channel-peer"});
        assert!(!warns(json!({"channels": telegram(json!([5, 6])), "session": apart})).await);
        let owners = json!({"ownerAllowFrom": ["telegram:5", "6"]});
        assert!(!warns(json!({"channels": telegram(json!([5, 6])), "commands": owners})).await);
        assert!(!warns(json!({})).await);
    }
}
