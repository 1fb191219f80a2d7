//! `[routes]`.

use crate::{
    reader::{Problem, Section, Value},
    template,
    values::{self, TimeToLive},
};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_types::{Durability, Priority, WhenFull};
use toml::de::DeValue;

/// Most routes: every message is compared with each.
pub(crate) const ROUTES_MAX: usize = 1000;
/// The number that IoT Edge manifests write for the lowest priority.
const IOT_EDGE_LOWEST: i64 = 2_000_000_000;

/// Reads every route and compiles them together, so that their faults have lines too.
pub(crate) fn routes(section: Option<Section<'_, '_, '_>>) -> Vec<RouteDefinition> {
    let Some(section) = section else { return Vec::new() };
    let mut read = Vec::new();
    for (name, at, value) in section.entries() {
        if let Some((reason, fix)) = route_name_fault(name) {
            section.report().push(at, section.key(name), Problem::new(reason, fix));
        } else if let Some(route) = route(&section, name, value) {
            read.push(route);
        }
    }
    if read.len() > ROUTES_MAX {
        let problem = Problem::new(
            format!("there are {} routes; at most {ROUTES_MAX} are allowed", read.len()),
            "join some of them with OR in their WHERE",
        );
        section.report().push(section.at(), "routes".to_owned(), problem);
        return Vec::new();
    }
    // A place in the list has to be found by the name alone, which is unique since TOML keys are.
    let definitions: Vec<RouteDefinition> = read.iter().map(|route| route.definition.clone()).collect();
    if let Err(errors) = RouteTable::compile(definitions.clone()) {
        for error in errors {
            let Some(route) = read.iter().find(|route| *route.definition.name == *error.route) else {
                continue;
            };
            route.section.fault(route.text, &route.key, problem_of(&error));
        }
    }
    definitions
}

struct ReadRoute<'a, 'i, 't> {
    definition: RouteDefinition,
    /// Where its text stands.
    text: Value<'a, 'i>,
    /// The section of the text and its key there.
    section: Section<'a, 'i, 't>,
    key: String,
}

/// The route language says what is wrong and, after the last semicolon, what to do.
pub(crate) fn route_problem(error: &holdfast_routes::RouteError) -> (String, String) {
    let text = error.fault.to_string();
    let (reason, fix) = text
        .rsplit_once("; ")
        .unwrap_or((&text, "correct the route; its form is FROM /messages/* WHERE condition INTO $upstream"));
    (reason.to_owned(), fix.to_owned())
}

fn problem_of(error: &holdfast_routes::RouteError) -> Problem {
    let (reason, fix) = route_problem(error);
    let problem = Problem::new(reason, fix);
    match error.span {
        Some(span) => problem.at(span.start),
        None => problem,
    }
}

/// IoT Edge: `^[^\.\$# ]+$`. Gives the reason and the fix.
pub(crate) fn route_name_fault(name: &str) -> Option<(String, &'static str)> {
    let fix = "use letters, digits, hyphens and underscores";
    if name.is_empty() || name.len() > holdfast_types::NAME_BYTES_MAX {
        return Some((format!("the name of a route has 1 to {} bytes", holdfast_types::NAME_BYTES_MAX), fix));
    }
    let odd = name.chars().find(|c| ".$# ".contains(*c) || c.is_control())?;
    Some((format!("character {odd:?} is not allowed in the name of a route"), fix))
}

fn route<'a, 'i, 't>(
    section: &Section<'a, 'i, 't>,
    name: &str,
    value: Value<'a, 'i>,
) -> Option<ReadRoute<'a, 'i, 't>> {
    let mut definition = RouteDefinition {
        name: name.into(),
        text: String::new(),
        priority: Priority::DEFAULT,
        time_to_live_secs: None,
        durability: Durability::default(),
        when_full: WhenFull::default(),
        topic: None,
    };
    match value.get() {
        DeValue::String(text) => {
            definition.text = text.to_string();
            let section = section.again();
            Some(ReadRoute { definition, text: value, section, key: name.to_owned() })
        }
        DeValue::Table(_) => {
            let mut section = section.subsection(name, value)?;
            let text = long_form(&mut section, &mut definition);
            let again = section.again();
            section.finish();
            text.map(|text| ReadRoute { definition, text, section: again, key: "route".to_owned() })
        }
        _ => {
            let example = "\"FROM /messages/* INTO $upstream\"";
            section.fault(
                value,
                name,
                value.mismatch("a route as text, or a section with its keys", example),
            );
            None
        }
    }
}

/// Fills in the definition; gives back where its text stands.
fn long_form<'a, 'i>(
    section: &mut Section<'a, 'i, '_>,
    definition: &mut RouteDefinition,
) -> Option<Value<'a, 'i>> {
    let example = "route = \"FROM /messages/* INTO $upstream\"";
    let at = section.take("route", |value| {
        let text = values::text(value, "a route: \"FROM /messages/* INTO $upstream\"")?;
        Ok((value, text))
    });
    if !section.holds("route") {
        section.missing("route", Problem::new("the route has no text", format!("add {example}")));
    }
    definition.priority = section.take("priority", priority).unwrap_or_default();
    definition.time_to_live_secs = lifetime(section);
    let durabilities = [("durable", Durability::Durable), ("volatile", Durability::Volatile)];
    definition.durability =
        section.take("durability", |value| values::choice(value, &durabilities)).unwrap_or_default();
    let answers = [
        ("block", WhenFull::Block),
        ("drop-oldest", WhenFull::DropOldest),
        ("drop-newest", WhenFull::DropNewest),
    ];
    definition.when_full =
        section.take("when_full", |value| values::choice(value, &answers)).unwrap_or_default();
    definition.topic = section.take("topic", |value| {
        let text = values::text(value, "\"plant/{source}\"")?;
        template::check(text).map(|()| text.to_owned())
    });
    let (at, text) = at?;
    text.clone_into(&mut definition.text);
    Some(at)
}

fn priority(value: Value<'_, '_>) -> Result<Priority, Problem> {
    if values::integer(value) == Some(IOT_EDGE_LOWEST) {
        return Ok(Priority::DEFAULT);
    }
    let fix = "write 0 (highest) to 9, or leave it out for the lowest";
    let level = values::whole(value, 0, 9).map_err(|problem| Problem { fix: fix.to_owned(), ..problem })?;
    Ok(u8::try_from(level).ok().and_then(Priority::new).unwrap_or_default())
}

/// The time to live, under its own name or IoT Edge's.
fn lifetime(section: &mut Section<'_, '_, '_>) -> Option<u32> {
    let ours = section.take("time_to_live", lifetime_secs).flatten();
    let theirs = section.take_alias("timeToLiveSecs", lifetime_secs).flatten();
    if let (true, Some(second)) = (section.holds("time_to_live"), section.value_of("timeToLiveSecs")) {
        let reason = "the time to live stands here twice, as time_to_live and as timeToLiveSecs";
        section.fault(second, "timeToLiveSecs", Problem::new(reason, "remove one of the two"));
    }
    ours.or(theirs)
}

/// Whole seconds, rounded up; for ever is the most that IoT Edge can say, 136 years.
fn lifetime_secs(value: Value<'_, '_>) -> Result<Option<u32>, Problem> {
    Ok(match values::time_to_live(value)? {
        TimeToLive::Global => None,
        TimeToLive::Forever => Some(u32::MAX),
        TimeToLive::For(time) => {
            let secs = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            Some(u32::try_from(secs).unwrap_or(u32::MAX))
        }
    })
}
