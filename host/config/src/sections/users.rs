//! `[[users]]`.

use crate::{
    Devices, Gateway, Proof, Secret, User,
    reader::{Problem, Section, Value},
    values,
};
use holdfast_types::{Name, TopicFilter};
use std::collections::HashMap;
use toml::de::DeValue;

/// Most users; a list is searched through at each connect.
const USERS_MAX: usize = 10_000;
/// Most filters of one user in one direction.
const FILTERS_MAX: usize = 1000;

pub(crate) fn users(root: &Section<'_, '_, '_>, value: Value<'_, '_>, gateway: &Gateway) -> Vec<User> {
    let DeValue::Array(items) = value.get() else {
        root.fault(value, "users", value.mismatch("a list of sections", "[[users]], with two brackets"));
        return Vec::new();
    };
    if items.len() > USERS_MAX {
        let reason = format!("there are {} users; at most {USERS_MAX} are allowed", items.len());
        root.fault(value, "users", Problem::new(reason, "let devices of one kind share a user"));
        return Vec::new();
    }
    let remote = gateway.listen.iter().any(|listen| !listen.address.ip().is_loopback());
    let mut lines: HashMap<Name, usize> = HashMap::new();
    let mut users = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = format!("users[{}]", index + 1);
        let Some(section) = root.subsection(&key, Value(item)) else { continue };
        users.extend(user(section, remote, &mut lines));
    }
    users
}

/// `[devices]`.
pub(crate) fn devices(section: Option<Section<'_, '_, '_>>) -> Devices {
    let Some(mut section) = section else { return Devices::default() };
    let (publish, subscribe) = (filters(&mut section, "publish"), filters(&mut section, "subscribe"));
    let deny = filters(&mut section, "deny");
    section.finish();
    Devices { publish, subscribe, deny }
}

/// The names of all users, as far as they can be read. What cannot is reported by [`users`].
pub(crate) fn user_names(value: &Value<'_, '_>) -> Vec<Name> {
    let DeValue::Array(items) = value.get() else { return Vec::new() };
    let name =
        |item: &toml::Spanned<DeValue<'_>>| Name::new(item.get_ref().get("name")?.get_ref().as_str()?).ok();
    items.iter().filter_map(name).collect()
}

fn user(mut section: Section<'_, '_, '_>, remote: bool, lines: &mut HashMap<Name, usize>) -> Option<User> {
    let name = section.take("name", |value| {
        let text = values::text(value, "name = \"sensor-1\"")?;
        let name = Name::new(text).map_err(|why| Problem::new(why.to_string(), "write another name"))?;
        Ok((name, value))
    });
    if !section.holds("name") {
        section.missing("name", Problem::new("the user has no name", "add name = \"sensor-1\""));
    }
    if let Some((name, value)) = &name {
        let (line, _) = section.report().position(value.at());
        if let Some(first) = lines.get(name) {
            let reason = format!("user {name} stands in line {first} already");
            section.fault(
                *value,
                "name",
                Problem::new(reason, "remove one of the two, or give it another name"),
            );
        } else {
            lines.insert(name.clone(), line);
        }
    }
    let proof = proof(&mut section, remote);
    let publish = filters(&mut section, "publish");
    let subscribe = filters(&mut section, "subscribe");
    let deny = filters(&mut section, "deny");
    section.finish();
    Some(User { name: name?.0, proof: proof?, publish, subscribe, deny })
}

fn proof(section: &mut Section<'_, '_, '_>, remote: bool) -> Option<Proof> {
    let plain = section.take("password", |value| {
        let password = values::secret(value)?;
        if remote {
            return Err(Problem::new(
                "a plain password is for development on loopback only, and the gateway listens on other addresses too",
                "write password_hash = \"$argon2id$…\" in its place, or listen on 127.0.0.1 only",
            ));
        }
        Ok(password)
    });
    let hash = section.take("password_hash", hash);
    let (has_plain, has_hash) = (section.holds("password"), section.holds("password_hash"));
    if has_plain
        && has_hash
        && let Some(value) = section.value_of("password")
    {
        let problem = Problem::new("the user has both password and password_hash", "remove password");
        section.fault(value, "password", problem);
    }
    if !has_plain && !has_hash {
        let fix = "add password_hash = \"$argon2id$…\", or password = \"…\" for development on this machine";
        section
            .missing("password_hash", Problem::new("the user has no password, so nobody could be it", fix));
    }
    plain.map(Proof::Plain).or(hash.map(Proof::Hash))
}

/// An Argon2 hash in PHC form: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`. The text itself is never repeated.
fn hash(value: Value<'_, '_>) -> Result<Secret, Problem> {
    let text = values::text(value, "\"$argon2id$v=19$m=19456,t=2,p=1$salt$hash\"")?;
    let fix =
        "write the whole text that the argon2 tool prints with -e: $argon2id$v=19$m=19456,t=2,p=1$salt$hash";
    let wrong = |reason: &str| Err(Problem::new(reason, fix));
    let parts: Vec<&str> = text.split('$').collect();
    let ["", kind, version, cost, salt, hash] = parts.as_slice() else {
        return wrong("this is not an Argon2 hash in PHC form, which has five parts, each after a $");
    };
    if !matches!(*kind, "argon2id" | "argon2i" | "argon2d") {
        return wrong("this hash is not of Argon2, the only kind that is understood");
    }
    let named = |part: &str| ["m=", "t=", "p="].iter().any(|name| part.starts_with(name));
    if *version != "v=19" || cost.split(',').count() < 3 || !cost.split(',').all(named) {
        return wrong("the version or the costs of this Argon2 hash cannot be read");
    }
    let base64 = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "+/.-".contains(c))
    };
    if !base64(salt) || !base64(hash) {
        return wrong("the salt or the hash is not Base64 without padding");
    }
    Ok(Secret::new(text))
}

fn filters(section: &mut Section<'_, '_, '_>, key: &'static str) -> Vec<TopicFilter> {
    let example = "[\"sensors/#\"]";
    let filters = section.take_list(key, example, |value| {
        let DeValue::String(text) = value.get() else {
            return Err(value.mismatch("a topic filter", "\"sensors/#\""));
        };
        TopicFilter::new(text).map_err(|why| {
            Problem::new(why.to_string(), "write a filter such as \"sensors/+/state\" or \"sensors/#\"")
        })
    });
    let filters = filters.unwrap_or_default();
    if filters.len() > FILTERS_MAX
        && let Some(value) = section.value_of(key)
    {
        let reason = format!("there are {} filters; at most {FILTERS_MAX} are allowed", filters.len());
        section.fault(value, key, Problem::new(reason, "join them with + and #"));
    }
    filters
}
