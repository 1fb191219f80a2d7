//! Topic templates.

use crate::reader::Problem;

/// What may stand in braces in a topic template. The upstream room fills them in: the name of the edge; the source
/// (module and output, or child and topic); module, output,
/// child and topic alone; the route; the priority; the stable id.
pub const TOPIC_PLACES: &[&str] =
    &["edge", "source", "module", "output", "child", "topic", "route", "priority", "id"];

/// Checks a topic template: places are known, braces are closed, what stands between them fits a topic.
pub(crate) fn check(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::new("the topic template is empty", "write \"holdfast/{edge}/{source}\""));
    }
    if text.len() > holdfast_types::TOPIC_BYTES_MAX {
        let reason = format!("the topic template has {} bytes; a topic has at most 65535", text.len());
        return Err(Problem::new(reason, "make it shorter"));
    }
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let literal = rest.find(['{', '}']).unwrap_or(rest.len());
        check_literal(rest.get(..literal).unwrap_or_default(), at)?;
        let Some(place) = rest.get(literal..).filter(|place| !place.is_empty()) else { break };
        let Some((name, after)) = place.strip_prefix('{').and_then(|place| place.split_once('}')) else {
            let problem = Problem::new("a brace is not closed or not opened", "write places as {edge}");
            return Err(problem.at(at + literal));
        };
        if !TOPIC_PLACES.contains(&name) {
            let fix = match crate::nearest::nearest(name, TOPIC_PLACES.iter().copied()) {
                Some(near) => format!("write {{{near}}}"),
                None => format!("use one of: {}", TOPIC_PLACES.join(", ")),
            };
            return Err(
                Problem::new(format!("{{{name}}} is no place of a topic template"), fix).at(at + literal)
            );
        }
        at = text.len() - after.len();
    }
    Ok(())
}

fn check_literal(literal: &str, at: usize) -> Result<(), Problem> {
    match literal.char_indices().find(|(_, c)| matches!(c, '+' | '#' | '\0')) {
        Some((offset, c)) => {
            let problem = Problem::new(
                format!("a topic cannot hold {c:?}"),
                "remove it; wildcards are for subscriptions",
            );
            Err(problem.at(at + offset))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn templates_of_known_places_are_taken_and_others_say_where() {
        for good in ["holdfast/{edge}/{source}", "a", "{topic}", "{child}{output}/x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let cases =
            [("", None), ("a/{egde}", Some(2)), ("a{edge", Some(1)), ("a}b", Some(1)), ("{edge}/#", Some(7))];
        for (bad, offset) in cases {
            assert_eq!(check(bad).unwrap_err().offset, offset, "{bad}");
        }
    }
}
