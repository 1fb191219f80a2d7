//! Text into tokens, by the rules of the IoT Edge lexer.
//!
//! Two rules decide everything. The longest token wins, and of two equally long ones the more special. And a name may
//! hold every character but `( ) < > @ , ; : \ " / [ ] ? = { }` and white space. Manifests rely on what follows from
//! them, so it is kept:
//!
//! * `+ - * % || !=` are letters of a name unless white space (or a character from the list above) stands before them:
//!   `a+b` is one name, and `a!=1` compares the property `a!` with 1.
//! * A number may begin with a minus: `a - 1` is a subtraction, `a -1` is a name and a number with nothing in between.
//! * `/*` opens a comment wherever a `*/` follows, so also behind the source `/messages/*`. Without one it is two tokens.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `e5`, `-E10` | a number without digits, which is undefined wherever it stands | a name |

use crate::error::Span;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Select,
    From,
    Where,
    Into,
    /// A string with both its quotes.
    Text,
    /// A string without its closing quote.
    OpenText,
    Integer,
    Hex,
    Real,
    True,
    False,
    Null,
    Undefined,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    LessEqual,
    GreaterEqual,
    Greater,
    Less,
    Concat,
    Coalesce,
    OpenBrace,
    CloseBrace,
    /// `$` and a name, which here may hold `[` and `]`.
    Dollar,
    Name,
    /// A name with `[` or `]` in it.
    Indexed,
    /// A character that begins no token.
    Unknown,
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The tokens of a text, the last of which is [`TokenKind::End`], and the comments between them.
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Span>,
}

/// Splits a text. Every text has tokens; what is wrong with them is found by the parser.
pub(crate) fn tokens(text: &str) -> Tokens {
    let mut found = Tokens { tokens: Vec::new(), comments: Vec::new() };
    let mut start = 0;
    loop {
        let rest = text.get(start..).unwrap_or_default();
        let Some(first) = rest.chars().next() else { break };
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            start += 1;
        } else if let Some(length) = comment(rest) {
            found.comments.push(Span { start, end: start + length });
            start += length;
        } else {
            let (kind, length) = token(rest, first);
            found.tokens.push(Token { kind, span: Span { start, end: start + length } });
            start += length;
        }
    }
    found.tokens.push(Token { kind: TokenKind::End, span: Span { start: text.len(), end: text.len() } });
    found
}

fn comment(rest: &str) -> Option<usize> {
    rest.strip_prefix("/*")?.find("*/").map(|end| end + 4)
}

fn token(rest: &str, first: char) -> (TokenKind, usize) {
    // The order is the order of the rules in the grammar: of equally long tokens the first is taken.
    let candidates = [quoted(rest, first), symbol(rest), word(rest)];
    let mut best = (TokenKind::Unknown, 0);
    for (kind, length) in candidates.into_iter().flatten() {
        if length > best.1 {
            best = (kind, length);
        }
    }
    if best.1 == 0 { (TokenKind::Unknown, first.len_utf8()) } else { best }
}

/// A string, up to its closing quote or to the first thing that a string cannot hold.
fn quoted(rest: &str, quote: char) -> Option<(TokenKind, usize)> {
    if !matches!(quote, '"' | '\'') {
        return None;
    }
    let mut at = 1;
    loop {
        let here = rest.get(at..).unwrap_or_default();
        match here.chars().next() {
            None => return Some((TokenKind::OpenText, at)),
            Some(c) if c == quote => return Some((TokenKind::Text, at + 1)),
            Some('\\') => match escape(here) {
                Some(length) => at += length,
                None => return Some((TokenKind::OpenText, at)),
            },
            Some(c) => at += c.len_utf8(),
        }
    }
}

/// The length of the escape that `here` begins with: `\"`, `\'`, `\\` or `\uXXXX`.
fn escape(here: &str) -> Option<usize> {
    match here.chars().nth(1)? {
        '"' | '\'' | '\\' => Some(2),
        'u' if here.get(2..6)?.chars().all(|c| c.is_ascii_hexdigit()) => Some(6),
        _ => None,
    }
}

/// Operators and brackets that cannot be part of a name.
fn symbol(rest: &str) -> Option<(TokenKind, usize)> {
    const SYMBOLS: [(&str, TokenKind); 14] = [
        ("!=", TokenKind::NotEqual),
        ("<>", TokenKind::NotEqual),
        ("<=", TokenKind::LessEqual),
        (">=", TokenKind::GreaterEqual),
        ("??", TokenKind::Coalesce),
        ("(", TokenKind::Open),
        (")", TokenKind::Close),
        (",", TokenKind::Comma),
        ("/", TokenKind::Slash),
        ("=", TokenKind::Equal),
        (">", TokenKind::Greater),
        ("<", TokenKind::Less),
        ("{", TokenKind::OpenBrace),
        ("}", TokenKind::CloseBrace),
    ];
    SYMBOLS.iter().find(|(text, _)| rest.starts_with(text)).map(|(text, kind)| (*kind, text.len()))
}

/// Whether a name (or, with `[` and `]`, a query) ends before this character.
fn ends_word(c: char) -> bool {
    matches!(
        c,
        '(' | ')'
            | '<'
            | '>'
            | '@'
            | ','
            | ';'
            | ':'
            | '\\'
            | '"'
            | '/'
            | '?'
            | '='
            | '{'
            | '}'
            | ' '
            | '\t'
            | '\n'
            | '\r'
    )
}

/// The longest run of name characters and what it is: keyword, operator, number, literal, name.
fn word(rest: &str) -> Option<(TokenKind, usize)> {
    let length = rest.find(ends_word).unwrap_or(rest.len());
    let run = rest.get(..length).filter(|run| !run.is_empty())?;
    Some((word_kind(run), length))
}

fn word_kind(run: &str) -> TokenKind {
    if run.contains(['[', ']']) {
        return if run.starts_with('$') { TokenKind::Dollar } else { TokenKind::Indexed };
    }
    const ANY_CASE: [(&str, TokenKind); 7] = [
        ("select", TokenKind::Select),
        ("from", TokenKind::From),
        ("where", TokenKind::Where),
        ("into", TokenKind::Into),
        ("and", TokenKind::And),
        ("or", TokenKind::Or),
        ("not", TokenKind::Not),
    ];
    if let Some((_, kind)) = ANY_CASE.iter().find(|(word, _)| run.eq_ignore_ascii_case(word)) {
        return *kind;
    }
    match run {
        "true" => TokenKind::True,
        "false" => TokenKind::False,
        "null" => TokenKind::Null,
        "undefined" => TokenKind::Undefined,
        "+" => TokenKind::Plus,
        "-" => TokenKind::Minus,
        "*" => TokenKind::Star,
        "%" => TokenKind::Percent,
        "||" => TokenKind::Concat,
        _ => number_kind(run).unwrap_or(if run.starts_with('$') && run.len() > 1 {
            TokenKind::Dollar
        } else {
            TokenKind::Name
        }),
    }
}

fn number_kind(run: &str) -> Option<TokenKind> {
    let all = |text: &str, is: fn(&char) -> bool| !text.is_empty() && text.chars().all(|c| is(&c));
    if let Some(digits) = run.strip_prefix("0x").or_else(|| run.strip_prefix("0X")) {
        return all(digits, char::is_ascii_hexdigit).then_some(TokenKind::Hex);
    }
    let unsigned = run.strip_prefix('-').unwrap_or(run);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    if exponent.is_some_and(|digits| !all(digits, char::is_ascii_digit)) {
        return None;
    }
    match mantissa.split_once('.') {
        Some((whole, fraction)) => ((whole.is_empty() || all(whole, char::is_ascii_digit))
            && all(fraction, char::is_ascii_digit))
        .then_some(TokenKind::Real),
        None if all(mantissa, char::is_ascii_digit) => {
            Some(if exponent.is_some() { TokenKind::Real } else { TokenKind::Integer })
        }
        None => None,
    }
}
