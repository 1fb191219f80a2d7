//! The condition: precedence climbing over the operators of IoT Edge.
//!
//! Tightest first: unary `-`; `NOT`; `* / %`; `+ - ||`; `< <= > >=`; `= != <>`; `AND`; `OR`; `??`. All of them group to the
//! left. `NOT` binds tighter than a comparison, so `NOT a = b` is `(NOT a) = b`.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `'\\u0041'` | the escaped backslash is lost, `\A` | escapes are read left to right: `\u0041` |
//! | half a surrogate pair in `\u` | kept, a broken string | a fault |
//! | hexadecimal, 16 digits | negative from 0x8000000000000000 | positive |
//! | hexadecimal, more digits | undefined | a fault |
//! | operators or brackets 100 deep | as far as the stack goes | a fault; lists of `AND` and `OR` may be of any length |

use super::{Parsed, Parser, is_word};
use crate::{
    DEPTH_MAX,
    condition::ast::{Expr, Node, Operator},
    error::{Fault, Span},
    lexer::TokenKind,
};

/// A binary operator and how tightly it binds.
#[derive(Clone, Copy, PartialEq)]
enum Infix {
    And,
    Or,
    Other(Operator),
}

impl Infix {
    fn of(kind: TokenKind) -> Option<Self> {
        Some(Self::Other(match kind {
            TokenKind::And => return Some(Self::And),
            TokenKind::Or => return Some(Self::Or),
            TokenKind::Star => Operator::Multiply,
            TokenKind::Slash => Operator::Divide,
            TokenKind::Percent => Operator::Modulo,
            TokenKind::Plus => Operator::Add,
            TokenKind::Minus => Operator::Subtract,
            TokenKind::Concat => Operator::Concat,
            TokenKind::Less => Operator::Less,
            TokenKind::LessEqual => Operator::LessEqual,
            TokenKind::Greater => Operator::Greater,
            TokenKind::GreaterEqual => Operator::GreaterEqual,
            TokenKind::Equal => Operator::Equal,
            TokenKind::NotEqual => Operator::NotEqual,
            TokenKind::Coalesce => Operator::Coalesce,
            _ => return None,
        }))
    }

    const fn power(self) -> u8 {
        match self {
            Self::Other(Operator::Coalesce) => 1,
            Self::Or => 2,
            Self::And => 3,
            Self::Other(Operator::Equal | Operator::NotEqual) => 4,
            Self::Other(
                Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual,
            ) => 5,
            Self::Other(Operator::Add | Operator::Subtract | Operator::Concat) => 6,
            Self::Other(Operator::Multiply | Operator::Divide | Operator::Modulo) => 7,
        }
    }
}

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.climb(0)
    }

    fn climb(&mut self, power_min: u8) -> Parsed<Expr> {
        let mut left = self.operand()?;
        while let Some(infix) = Infix::of(self.kind()).filter(|infix| infix.power() >= power_min) {
            let sign = self.advance().span;
            let right = self.climb(infix.power() + 1)?;
            left = self.join(infix, sign, left, right)?;
        }
        Ok(left)
    }

    fn join(&self, infix: Infix, operator_span: Span, left: Expr, right: Expr) -> Parsed<Expr> {
        let span = left.span.to(right.span);
        let depth = left.depth.max(right.depth) + 1;
        let node = match infix {
            Infix::And | Infix::Or => {
                let and = infix == Infix::And;
                // A list that goes on stays one node; its depth grows only with that of its members.
                let (mut members, depth) = match (left.node, and) {
                    (Node::All(members), true) | (Node::Any(members), false) => {
                        (members, left.depth.max(right.depth + 1))
                    }
                    (node, _) => (vec![Expr { node, ..left }], depth),
                };
                members.push(right);
                let node = if and { Node::All(members) } else { Node::Any(members) };
                return bounded(Expr { node, span, depth });
            }
            Infix::Other(operator) => {
                Node::Binary { operator, operator_span, left: Box::new(left), right: Box::new(right) }
            }
        };
        bounded(Expr { node, span, depth })
    }

    /// Something that no operator has been applied to, or a prefix and its operand.
    fn operand(&mut self) -> Parsed<Expr> {
        if self.depth >= DEPTH_MAX {
            return Err((self.peek().span, Fault::TooDeep));
        }
        self.depth += 1;
        let operand = self.operand_inner();
        self.depth -= 1;
        operand
    }

    fn operand_inner(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        match token.kind {
            TokenKind::Open => {
                self.at += 1;
                let inner = self.climb(0)?;
                let close = self.demand(TokenKind::Close, "`)`, or an operator")?;
                Ok(Expr { span: token.span.to(close.span), ..inner })
            }
            TokenKind::Minus | TokenKind::Not => {
                self.at += 1;
                let inner = self.operand()?;
                let (span, depth) = (token.span.to(inner.span), inner.depth + 1);
                let node = match token.kind {
                    TokenKind::Minus => Node::Negate(Box::new(inner)),
                    _ => Node::Not(Box::new(inner)),
                };
                bounded(Expr { node, span, depth })
            }
            TokenKind::OpenBrace => {
                self.at += 1;
                let name = self.demand(TokenKind::Dollar, "a $name between `{` and `}`")?;
                let close = self.demand(TokenKind::CloseBrace, "`}`")?;
                let node = Node::Escaped(self.word(name).to_owned());
                Ok(Expr { node, span: token.span.to(close.span), depth: 1 })
            }
            TokenKind::Name => {
                self.at += 1;
                match self.kind() {
                    TokenKind::Open => self.call(token.span),
                    _ => Ok(leaf(Node::Property(self.word(token).to_owned()), token.span)),
                }
            }
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let word = self.word(token);
        let node = match token.kind {
            TokenKind::True => Node::Bool(true),
            TokenKind::False => Node::Bool(false),
            TokenKind::Null => Node::Null,
            TokenKind::Undefined => Node::Undefined,
            TokenKind::Dollar => Node::Dollar(word.to_owned()),
            TokenKind::Text => Node::Text(unquote(word).map_err(|fault| (token.span, fault))?),
            // Too large a number is infinite, as everywhere else in this language.
            TokenKind::Integer | TokenKind::Real => Node::Number(word.parse().unwrap_or(f64::INFINITY)),
            TokenKind::Hex => {
                let digits = word.get(2..).unwrap_or_default();
                let number = u64::from_str_radix(digits, 16).map_err(|_| (token.span, Fault::HexTooLong))?;
                Node::Number(number as f64)
            }
            kind if is_word(kind) => {
                let found = format!("the keyword `{word}`");
                let hint = Some("a property with this name cannot be read in a condition".to_owned());
                return Err((token.span, Fault::Expected { wanted: VALUE, found, hint }));
            }
            _ => return Err(self.unexpected(VALUE)),
        };
        self.at += 1;
        Ok(leaf(node, token.span))
    }

    /// A function; its name has been read.
    fn call(&mut self, name_span: Span) -> Parsed<Expr> {
        let name = name_span.of(self.text).to_owned();
        self.demand(TokenKind::Open, "`(`")?;
        if name.eq_ignore_ascii_case("twin_change_includes") {
            return self.twin_includes(name_span);
        }
        let mut arguments: Vec<Expr> = Vec::new();
        if self.kind() != TokenKind::Close {
            loop {
                arguments.push(self.climb(0)?);
                if !self.takes(TokenKind::Comma) {
                    break;
                }
            }
        }
        let close = self.demand(TokenKind::Close, "`,` or `)` after an argument")?;
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0) + 1;
        let span = name_span.to(close.span);
        bounded(Expr { node: Node::Call { name, name_span, arguments }, span, depth })
    }

    fn twin_includes(&mut self, name_span: Span) -> Parsed<Expr> {
        let path = self.peek();
        if !matches!(path.kind, TokenKind::Name | TokenKind::Indexed) {
            return Err(self.unexpected("a path without quotes, such as properties.reported.level"));
        }
        self.at += 1;
        let close = self.demand(TokenKind::Close, "`)` after the path")?;
        let node = Node::TwinIncludes { path: self.word(path).to_owned(), path_span: path.span };
        Ok(leaf(node, name_span.to(close.span)))
    }
}

const VALUE: &str = "a value, a property or a function";

const fn leaf(node: Node, span: Span) -> Expr {
    Expr { node, span, depth: 1 }
}

fn bounded(expr: Expr) -> Parsed<Expr> {
    if expr.depth > DEPTH_MAX { Err((expr.span, Fault::TooDeep)) } else { Ok(expr) }
}

/// The text that a string token means.
pub(super) fn unquote(token: &str) -> Result<String, Fault> {
    let inner = token.get(1..token.len() - 1).unwrap_or_default();
    // UTF-16 on the way, since `\u` names its code units.
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('u') => {
                    let digits = rest.as_str().get(..4).unwrap_or_default();
                    units.push(u16::from_str_radix(digits, 16).map_err(|_| Fault::OpenText)?);
                    rest.nth(3);
                    continue;
                }
                Some(escaped) => escaped,
                None => return Err(Fault::OpenText),
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| Fault::Surrogate)
}
