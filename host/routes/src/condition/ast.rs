//! A condition as it is written.

use crate::error::Span;

/// An expression, where it stands, and how deep it is.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) node: Node,
    pub(crate) span: Span,
    /// 1 for a leaf. Bounded by the parser, so that whoever walks the tree needs a bounded stack.
    pub(crate) depth: usize,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// `name`.
    Property(String),
    /// `$name`, with the `$`.
    Dollar(String),
    /// `{$name}`, with the `$`.
    Escaped(String),
    Call {
        name: String,
        name_span: Span,
        arguments: Vec<Expr>,
    },
    /// `twin_change_includes(path)`: its argument is a path, not an expression.
    TwinIncludes {
        path: String,
        path_span: Span,
    },
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary {
        operator: Operator,
        operator_span: Span,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// Two or more expressions joined by `AND`, left to right. One node, so that a long list is not a deep tree.
    All(Vec<Expr>),
    /// The same for `OR`.
    Any(Vec<Expr>),
}

/// Operators with two operands but `AND` and `OR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Multiply,
    Divide,
    Modulo,
    Add,
    Subtract,
    Concat,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Coalesce,
}

impl Operator {
    /// How it is written.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Concat => "||",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Coalesce => "??",
        }
    }
}
