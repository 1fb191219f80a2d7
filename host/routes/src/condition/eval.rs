//! Asking a message.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | body value of one type ordered against another, `$body.text > 5`, or a missing one, `$body.none > 5` | ordered by type, so both are true | false |
//! | the same with `!=` | true | true |
//! | `$body.flag OR true` where the flag is not true or false | undefined | true, as for every other undefined operand |
//! | `NOT $body.flag` where the flag is not true or false | undefined | undefined |
//! | a body number that is none, `$body.zero / $body.zero` | less than every number | undefined, as `0 / 0` is |

use super::{
    Answer, Op, Reference, Type, Typed,
    ast::Operator,
    body,
    context::Context,
    functions,
    value::{self, Value},
};

/// What a condition says about a message.
pub(crate) fn answer(condition: &Typed, context: &Context<'_>) -> Answer {
    match &condition.op {
        Op::Not(inner) => value::not(answer(inner, context)),
        Op::All(members) => {
            let mut all = Answer::True;
            for member in members {
                all = value::and(all, answer(member, context));
                // Nothing brings false back but null, and then the type says that null is among the members.
                if all == Answer::False && condition.kind == Type::Bool {
                    break;
                }
            }
            all
        }
        Op::Any(members) => {
            let mut any = Answer::Null;
            for member in members {
                any = value::or(any, answer(member, context));
                if any == Answer::True {
                    break;
                }
            }
            any
        }
        Op::Binary(
            operator @ (Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessEqual
            | Operator::Greater
            | Operator::GreaterEqual),
            left,
            right,
        ) => value::compare(*operator, &eval(left, context), &eval(right, context)),
        _ => eval(condition, context).logic(condition.kind),
    }
}

/// The value of an expression for a message.
pub(crate) fn eval<'a>(expr: &'a Typed, context: &'a Context<'_>) -> Value<'a> {
    match &expr.op {
        Op::Constant(value) => value.borrowed(),
        Op::Property(name) => text(context.property(name)),
        Op::Dollar(name, otherwise) => match context.property(name) {
            Some(value) => Value::Text(value.into()),
            None => reference(otherwise, context),
        },
        Op::Reference(what) => reference(what, context),
        Op::Negate(inner) => eval(inner, context).as_number().map_or(Value::Undefined, |n| Value::Number(-n)),
        Op::Binary(Operator::Coalesce, left, right) => match eval(left, context) {
            Value::Undefined => eval(right, context),
            value => value,
        },
        Op::Binary(
            operator @ (Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo),
            left,
            right,
        ) => arithmetic(*operator, &eval(left, context), &eval(right, context)),
        Op::Binary(Operator::Concat, left, right) => concat(eval(left, context), &eval(right, context)),
        Op::Call(function, arguments) => call(*function, arguments, context),
        Op::TwinIncludes(path) => match context.body() {
            Ok(json) => Value::Bool(path.of(json).is_some()),
            Err(_) => Value::Undefined,
        },
        Op::Binary(..) | Op::Not(_) | Op::All(_) | Op::Any(_) => answer(expr, context).into(),
    }
}

/// Most arguments that a function with a fixed number of them takes; more come with `concat` only.
const ARGUMENTS_MAX: usize = 3;

fn call<'a>(function: functions::Function, arguments: &'a [Typed], context: &'a Context<'_>) -> Value<'a> {
    if arguments.len() > ARGUMENTS_MAX {
        let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
        let values: Vec<Value<'_>> = arguments.iter().map(|argument| eval(argument, context)).collect();
        return functions::call(function, &kinds, &values);
    }
    let mut kinds = [Type::Undefined; ARGUMENTS_MAX];
    let mut values = [const { Value::Undefined }; ARGUMENTS_MAX];
    for ((kind, value), argument) in kinds.iter_mut().zip(&mut values).zip(arguments) {
        *kind = argument.kind;
        *value = eval(argument, context);
    }
    let values = values.get(..arguments.len()).unwrap_or_default();
    functions::call(function, &kinds, values)
}

fn text(value: Option<&str>) -> Value<'_> {
    value.map_or(Value::Undefined, |text| Value::Text(text.into()))
}

fn reference<'a>(what: &'a Reference, context: &'a Context<'_>) -> Value<'a> {
    match what {
        Reference::System(name, _) => name.of(context).map_or(Value::Undefined, Value::Text),
        Reference::Body(path) => match context.body() {
            // A path that leads nowhere is null, a body that cannot be read is undefined.
            Ok(json) => path.of(json).map_or(Value::Null, body::scalar),
            Err(_) => Value::Undefined,
        },
    }
}

fn arithmetic<'a>(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Value<'a> {
    let (Some(left), Some(right)) = (left.as_number(), right.as_number()) else { return Value::Undefined };
    Value::number(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    })
}

fn concat<'a>(left: Value<'a>, right: &Value<'_>) -> Value<'a> {
    match (left, right.as_text()) {
        (Value::Text(left), Some(right)) => {
            let mut joined = left.into_owned();
            joined.push_str(right);
            Value::Text(joined.into())
        }
        _ => Value::Undefined,
    }
}
