//! Tokens into a route. This file reads the route, [`expression`] the condition.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | text behind the sink | ignored | a fault |
//! | empty text | passes the grammar, fails later without a reason | a fault that says so |
//! | `BrokeredEndpoint` | two of the four parts are not looked at | the same |
//! | `INTO Topic("…")` | not known | a sink: subscribers of a local MQTT topic |
//! | `FROM Topic("…")` | not known | a source: what is published to plain topics that the filter names |

mod expression;

use crate::{
    condition::ast::Expr,
    error::{Fault, Span},
    lexer::{Token, TokenKind, Tokens, tokens},
    source::SourcePattern,
};
use holdfast_types::{Name, Sink, Topic, TopicFilter};

/// A fault and where it is.
pub(crate) type Found = (Span, Fault);
type Parsed<T> = Result<T, Found>;

/// A route as far as it could be read: a part that is at fault is missing.
pub(crate) struct Parts {
    pub(crate) source: Option<SourcePattern>,
    /// The condition; `None` also when there is no `WHERE`.
    pub(crate) condition: Option<Expr>,
    pub(crate) sink: Option<Sink>,
}

/// Reads a route. A fault in one part does not hide the faults of the others.
pub(crate) fn route(text: &str, faults: &mut Vec<Found>) -> Parts {
    let Tokens { tokens, comments } = tokens(text);
    let mut parser = Parser { text, tokens, comments, at: 0, depth: 0 };
    let mut parts = Parts { source: None, condition: None, sink: None };
    if parser.kind() == TokenKind::End {
        faults.push((Span { start: 0, end: 0 }, Fault::Empty));
        return parts;
    }
    parts.source = parser.head().map_err(|found| faults.push(found)).ok();
    if parts.source.is_none() && !parser.skip_to(&[TokenKind::Where, TokenKind::Into]) {
        return parts;
    }
    let mut trusted = true;
    if parser.takes(TokenKind::Where) {
        match parser.expression() {
            Ok(condition) => parts.condition = Some(condition),
            Err(found) => {
                trusted = false;
                faults.push(found);
            }
        }
        if !trusted && !parser.skip_to(&[TokenKind::Into]) {
            return parts;
        }
    }
    match parser.tail() {
        Ok(sink) => parts.sink = Some(sink),
        Err(found) => faults.push(found),
    }
    parts
}

pub(crate) struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    comments: Vec<Span>,
    at: usize,
    /// How many expressions are being read at once, each inside the last.
    depth: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token {
        let end = Span { start: self.text.len(), end: self.text.len() };
        self.tokens.get(self.at).copied().unwrap_or(Token { kind: TokenKind::End, span: end })
    }

    fn kind(&self) -> TokenKind {
        self.peek().kind
    }

    fn previous(&self) -> Option<Token> {
        self.tokens.get(self.at.checked_sub(1)?).copied()
    }

    fn advance(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn takes(&mut self, kind: TokenKind) -> bool {
        let is = self.kind() == kind;
        self.at += usize::from(is);
        is
    }

    fn demand(&mut self, kind: TokenKind, wanted: &'static str) -> Parsed<Token> {
        if self.kind() == kind { Ok(self.advance()) } else { Err(self.unexpected(wanted)) }
    }

    fn word(&self, token: Token) -> &'t str {
        token.span.of(self.text)
    }

    fn skip_to(&mut self, kinds: &[TokenKind]) -> bool {
        while self.kind() != TokenKind::End && !kinds.contains(&self.kind()) {
            self.at += 1;
        }
        self.kind() != TokenKind::End
    }

    /// `[SELECT *] FROM source`.
    fn head(&mut self) -> Parsed<SourcePattern> {
        if self.takes(TokenKind::Select) {
            self.demand(TokenKind::Star, "`*` after SELECT")?;
        }
        self.demand(TokenKind::From, "FROM")?;
        let item = self.peek();
        if item.kind == TokenKind::Name && self.word(item).eq_ignore_ascii_case("Topic") {
            self.at += 1;
            let source = self.topics()?;
            self.ends_source()?;
            return Ok(source);
        }
        let mut path = String::new();
        self.demand(TokenKind::Slash, "a source path such as /messages/*, or Topic(\"<filter>\")")?;
        loop {
            path.push('/');
            let item = self.peek();
            match item.kind {
                TokenKind::Star | TokenKind::Name => path.push_str(self.word(item)),
                kind if is_word(kind) => {
                    return Err((item.span, Fault::SourceItem(self.word(item).to_owned())));
                }
                _ => return Err(self.unexpected("a name or `*` after `/`")),
            }
            self.at += 1;
            if !self.takes(TokenKind::Slash) {
                break;
            }
        }
        self.ends_source()?;
        Ok(SourcePattern::new(&path))
    }

    fn ends_source(&self) -> Parsed<()> {
        match self.kind() {
            TokenKind::Where | TokenKind::Into => Ok(()),
            _ => Err(self.unexpected("WHERE or INTO after the source")),
        }
    }

    /// `("filter")` behind `Topic`.
    fn topics(&mut self) -> Parsed<SourcePattern> {
        self.demand(TokenKind::Open, "`(` after Topic")?;
        let token = self.demand(TokenKind::Text, "a filter of topics in quotes")?;
        self.demand(TokenKind::Close, "`)` after the filter")?;
        let filter = expression::unquote(self.word(token)).map_err(|fault| (token.span, fault))?;
        if filter.starts_with('$') {
            return Err((token.span, Fault::ReservedTopic));
        }
        let filter = TopicFilter::new(&filter).map_err(|why| (token.span, Fault::Filter(why)))?;
        Ok(SourcePattern::topics(filter))
    }

    /// `INTO sink` and the end.
    fn tail(&mut self) -> Parsed<Sink> {
        self.demand(TokenKind::Into, "INTO, or an operator that goes on with the condition")?;
        let sink = self.sink()?;
        match self.kind() {
            TokenKind::End => Ok(sink),
            _ => Err(self.unexpected("nothing more after the sink")),
        }
    }

    fn sink(&mut self) -> Parsed<Sink> {
        let token = self.peek();
        let word = self.word(token);
        match token.kind {
            TokenKind::Dollar => {
                self.at += 1;
                match word.eq_ignore_ascii_case("$upstream") {
                    true => Ok(Sink::Upstream),
                    false => Err((token.span, Fault::SystemSink(word.to_owned()))),
                }
            }
            TokenKind::Name => {
                self.at += 1;
                self.demand(TokenKind::Open, "`(` after the kind of sink")?;
                let address = self.demand(TokenKind::Text, "an address in quotes")?;
                self.demand(TokenKind::Close, "`)` after the address")?;
                if word.eq_ignore_ascii_case("BrokeredEndpoint") {
                    self.input(address)
                } else if word.eq_ignore_ascii_case("Topic") {
                    self.topic(address)
                } else {
                    Err((token.span, Fault::SinkKind(word.to_owned())))
                }
            }
            _ => Err(self.unexpected("a sink, such as $upstream")),
        }
    }

    fn input(&self, token: Token) -> Parsed<Sink> {
        let quoted = self.word(token);
        // The address is taken as it stands between its quotes: escapes have no meaning here.
        let address = quoted.get(1..quoted.len() - 1).unwrap_or_default().trim();
        let address = address.strip_prefix('/').unwrap_or(address);
        let address = address.strip_suffix('/').unwrap_or(address);
        let mut parts = address.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(module), Some(_), Some(input), None) => {
                let name = |text| Name::new(text).map_err(|why| (token.span, Fault::AddressName(why)));
                Ok(Sink::Input { module: name(module)?, input: name(input)? })
            }
            _ => Err((token.span, Fault::AddressParts(address.split('/').count()))),
        }
    }

    fn topic(&self, token: Token) -> Parsed<Sink> {
        let topic = expression::unquote(self.word(token)).map_err(|fault| (token.span, fault))?;
        if topic.starts_with('$') {
            return Err((token.span, Fault::ReservedTopic));
        }
        Topic::new(&topic).map(Sink::Topic).map_err(|why| (token.span, Fault::Topic(why)))
    }

    /// The fault that the next token is not what was wanted, or a nearer one when the token says which.
    fn unexpected(&self, wanted: &'static str) -> Found {
        let token = self.peek();
        let word = self.word(token);
        let adjacent = self.previous().filter(|previous| previous.span.end == token.span.start);
        let fault = match token.kind {
            TokenKind::Equal if adjacent.is_some_and(|previous| previous.kind == TokenKind::Equal) => {
                let start = token.span.start - 1;
                return (Span { start, end: token.span.end }, Fault::DoubleEqual);
            }
            TokenKind::Equal
                if self.tokens.get(self.at + 1).is_some_and(|next| next.kind == TokenKind::Equal) =>
            {
                return (Span { start: token.span.start, end: token.span.end + 1 }, Fault::DoubleEqual);
            }
            // A quote right behind a comment was most likely the end of a string that the comment began in.
            TokenKind::OpenText if self.comments.iter().all(|comment| comment.end != token.span.start) => {
                Fault::OpenText
            }
            TokenKind::Indexed => Fault::IndexedName(word.to_owned()),
            TokenKind::Close if self.depth == 0 => Fault::UnmatchedClose,
            _ => Fault::Expected { wanted, found: self.found(token), hint: self.hint(token) },
        };
        (token.span, fault)
    }

    fn found(&self, token: Token) -> String {
        match token.kind {
            TokenKind::End => "the end of the route".to_owned(),
            _ => format!("`{}`", self.word(token)),
        }
    }

    /// What was probably meant, as far as the next token shows it.
    fn hint(&self, token: Token) -> Option<String> {
        let word = self.word(token);
        let hint = match (token.kind, word) {
            (TokenKind::Integer | TokenKind::Real, _) if word.starts_with('-') => {
                "for a subtraction put a space behind the minus".to_owned()
            }
            (_, "&&" | "&") => "write AND".to_owned(),
            (_, "|") => "write OR, or || to join strings".to_owned(),
            (_, "!") => "write NOT".to_owned(),
            (TokenKind::Unknown, "?") => "a default is written `??`".to_owned(),
            (TokenKind::Name, _) if word.contains(['+', '*', '%', '|', '!']) => {
                "put spaces around the operator, without them it belongs to the name".to_owned()
            }
            _ => {
                let comment = self.comments.iter().rfind(|comment| comment.start < token.span.start)?;
                format!(
                    "note that from {} on `{}` was read as a comment",
                    comment.place(self.text),
                    comment.of(self.text)
                )
            }
        };
        Some(hint)
    }
}

/// Keywords and numbers, which are made of the characters of names.
const fn is_word(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Select
            | TokenKind::From
            | TokenKind::Where
            | TokenKind::Into
            | TokenKind::And
            | TokenKind::Or
            | TokenKind::Not
            | TokenKind::True
            | TokenKind::False
            | TokenKind::Null
            | TokenKind::Undefined
            | TokenKind::Integer
            | TokenKind::Hex
            | TokenKind::Real
    )
}

#[cfg(test)]
mod tests;
