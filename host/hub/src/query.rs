//! Target conditions of deployments: `tags.site = 'north' AND (tags.line != 2 OR deviceId = 'edge-7')`.
//!
//! As in IoT Hub: comparisons of tags and of the name of the device with texts, numbers and truth values, joined with AND,
//! OR and NOT. A tag that is not there equals nothing and differs from nothing.

use holdfast_types::Name;
use serde_json::{Map, Value};

/// Most bytes of a condition.
const BYTES_MAX: usize = 4096;

/// Most levels of parentheses and NOT.
const DEPTH_MAX: usize = 32;

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target condition is not understood at byte {at}: {what}; write for example tags.site = 'north' AND tags.line = 2"
)]
pub struct InvalidCondition {
    /// Where.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Compare(Field, Operator, Value),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Device,
    Tag(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    Other,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it is not understood.
    pub fn parse(text: &str) -> Result<Self, InvalidCondition> {
        if text.len() > BYTES_MAX {
            return Err(InvalidCondition { at: BYTES_MAX, what: "it ends by then" });
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let node = parser.either()?;
        parser.blank();
        if parser.rest().is_empty() { Ok(Self(node)) } else { Err(parser.expected("AND, OR or the end")) }
    }

    /// Whether it holds for a device with these tags.
    pub fn holds(&self, device: &Name, tags: &Map<String, Value>) -> bool {
        holds(&self.0, device, tags)
    }
}

fn holds(node: &Node, device: &Name, tags: &Map<String, Value>) -> bool {
    match node {
        Node::And(all) => all.iter().all(|node| holds(node, device, tags)),
        Node::Or(any) => any.iter().any(|node| holds(node, device, tags)),
        Node::Not(node) => !holds(node, device, tags),
        Node::Compare(Field::Device, operator, value) => {
            compares(&Value::from(device.as_str()), *operator, value)
        }
        Node::Compare(Field::Tag(path), operator, value) => {
            let mut steps = path.iter();
            let first = steps.next().and_then(|key| tags.get(key));
            let found = steps.try_fold(first, |at, key| at.map(|at| at.get(key)));
            found.flatten().is_some_and(|found| compares(found, *operator, value))
        }
    }
}

fn compares(found: &Value, operator: Operator, value: &Value) -> bool {
    let order = match (found, value) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match (operator, order) {
        (Operator::Equal, order) => order.is_some_and(std::cmp::Ordering::is_eq),
        (Operator::Other, order) => !order.is_some_and(std::cmp::Ordering::is_eq),
        (_, None) => false,
        (Operator::Less, Some(order)) => order.is_lt(),
        (Operator::LessOrEqual, Some(order)) => order.is_le(),
        (Operator::Greater, Some(order)) => order.is_gt(),
        (Operator::GreaterOrEqual, Some(order)) => order.is_ge(),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, what: &'static str) -> InvalidCondition {
        InvalidCondition { at: self.at, what }
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.blank();
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.blank();
        let rest = self.rest();
        let found = rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest.get(word.len()..).is_some_and(|more| more.starts_with(is_name));
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn either(&mut self) -> Result<Node, InvalidCondition> {
        let mut any = vec![self.both()?];
        while self.word("OR") {
            any.push(self.both()?);
        }
        Ok(Node::Or(any))
    }

    fn both(&mut self) -> Result<Node, InvalidCondition> {
        let mut all = vec![self.one()?];
        while self.word("AND") {
            all.push(self.one()?);
        }
        Ok(Node::And(all))
    }

    fn one(&mut self) -> Result<Node, InvalidCondition> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.expected("fewer levels of parentheses"));
        }
        let node = if self.word("NOT") {
            Node::Not(Box::new(self.one()?))
        } else if self.sign("(") {
            let node = self.either()?;
            if !self.sign(")") {
                return Err(self.expected("a closing parenthesis"));
            }
            node
        } else {
            let field = self.field()?;
            Node::Compare(field, self.operator()?, self.value()?)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn field(&mut self) -> Result<Field, InvalidCondition> {
        self.blank();
        let rest = self.rest();
        let end = rest.find(|c: char| !is_name(c) && c != '.').unwrap_or(rest.len());
        let (name, _) = rest.split_at(end);
        let field = match name.split_once('.') {
            None if name == "deviceId" => Field::Device,
            Some(("tags", path)) if path.split('.').all(|part| !part.is_empty()) => {
                Field::Tag(path.split('.').map(str::to_owned).collect())
            }
            _ => return Err(self.expected("tags.NAME or deviceId")),
        };
        self.at += end;
        Ok(field)
    }

    fn operator(&mut self) -> Result<Operator, InvalidCondition> {
        const SIGNS: [(&str, Operator); 7] = [
            ("!=", Operator::Other),
            ("<>", Operator::Other),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let found = SIGNS.into_iter().find(|(sign, _)| self.sign(sign));
        found.map(|(_, operator)| operator).ok_or_else(|| self.expected("=, !=, <, <=, > or >="))
    }

    fn value(&mut self) -> Result<Value, InvalidCondition> {
        for (word, value) in [("true", true), ("false", false)] {
            if self.word(word) {
                return Ok(value.into());
            }
        }
        if let Some(quote) = ["'", "\""].into_iter().find(|quote| self.sign(quote)) {
            let Some((text, _)) = self.rest().split_once(quote) else {
                return Err(self.expected("the quotation mark that ends the text"));
            };
            self.at += text.len() + quote.len();
            return Ok(text.into());
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(rest.len());
        let (digits, _) = rest.split_at(end);
        let number = digits
            .parse::<f64>()
            .map_err(|_| self.expected("a text in quotation marks, a number, true or false"))?;
        self.at += end;
        Ok(number.into())
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(condition: &str) -> bool {
        let tags = json!({ "site": "north", "line": 2, "place": { "hall": "b-1" }, "old": false });
        let device = Name::new("edge-7").unwrap();
        Condition::parse(condition).unwrap().holds(&device, tags.as_object().unwrap())
    }

    #[test]
    fn a_condition_holds_for_the_devices_that_it_means() {
        for yes in [
            "tags.site = 'north'",
            "tags.site='north' and tags.line>=2",
            "tags.site = 'south' OR tags.place.hall = \"b-1\"",
            "NOT (tags.line < 2 OR tags.old = true)",
            "deviceId = 'edge-7'",
            "tags.line <> 3",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in
            ["tags.site = 'south'", "tags.none = 1", "tags.none != 1", "tags.line = '2'", "tags.line > 2"]
        {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_condition_says_where() {
        for (text, at) in [
            ("", 0),
            ("tags.a", 6),
            ("tags.a = ", 9),
            ("tags.a = 'x", 10),
            ("x = 1", 0),
            ("tags.a = 1 tags", 11),
        ] {
            assert_eq!(Condition::parse(text).unwrap_err().at, at, "{text:?}");
        }
        assert!(Condition::parse(&"(".repeat(100)).is_err());
        assert!(Condition::parse(&"NOT ".repeat(100)).is_err());
    }
}
