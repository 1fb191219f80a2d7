//! The route language: parse, compile, match, explain.
//!
//! What this room does: it turns the text of routes into a [`RouteTable`], or into every fault of every route at once;
//! it says which routes take a message, and why the others do not. What it does not do: it sends nothing, reads no clock
//! and no file. The language is that of Azure IoT Edge (`Route.g4`, `Condition.g4`, `GrammarLexer.g4` of Azure/iotedge), so
//! that the routes of a manifest mean here what they meant there.
//!
//! ```
//! use holdfast_routes::{Origin, RouteDefinition, RouteTable};
//! use holdfast_types::{Envelope, Message, Name, Source, UnixMillis};
//!
//! let table = RouteTable::compile(vec![
//!     RouteDefinition::new("all", "FROM /messages/* INTO $upstream"),
//!     RouteDefinition::new("alerts", "FROM /messages/modules/sensor/* WHERE level = 'high' INTO Topic(\"alerts\")"),
//! ])
//! .unwrap();
//!
//! let mut message = Message::new("21.5");
//! message.properties.set("level", "low");
//! let source = Source::Module { module: Name::new("sensor").unwrap(), output: None };
//! let envelope = Envelope { message, source, received: UnixMillis(0), hops: 0 };
//! let edge = Name::new("edge").unwrap();
//!
//! let taken = table.evaluate(&envelope, &edge, Origin::Internal);
//! assert_eq!(taken.iter().map(|m| &*m.route.name).collect::<Vec<_>>(), ["all"]);
//!
//! let why = table.explain(&envelope, &edge, Origin::Internal).to_string();
//! assert!(why.contains("level = 'high' is false, where level is 'low'"));
//! ```
//!
//! # Routes
//!
//! ```text
//! [SELECT *] FROM <source> [WHERE <condition>] INTO <sink>
//! ```
//!
//! `SELECT FROM WHERE INTO AND OR NOT` have any case, `true false null undefined` lower case only. Without `WHERE` a route
//! takes every message of its source. `/* … */` is a comment.
//!
//! | source | messages of |
//! |---|---|
//! | `/*` | everything |
//! | `/messages`, `/messages/*` | modules and children |
//! | `/messages/modules/*` | modules |
//! | `/messages/modules/<m>`, `/messages/modules/<m>/*` | module m, from any output or none |
//! | `/messages/modules/<m>/outputs/*` | module m, from any output |
//! | `/messages/modules/<m>/outputs/<o>` | output o of module m |
//! | `/twinChangeNotifications` | changes of reported properties |
//! | `Topic("<filter>")` | clients of plain MQTT that published to a topic of this filter, with `+` and `#` (Holdfast only) |
//!
//! A source is a prefix of whole path items, whatever the case. A star counts only at the end.
//!
//! | sink | goes to |
//! |---|---|
//! | `$upstream` | the hub or broker above |
//! | `BrokeredEndpoint("/modules/<m>/inputs/<i>")` | input i of module m |
//! | `Topic("<topic>")` | subscribers of a local MQTT topic (Holdfast only) |
//!
//! Several routes with one sink make one copy: the lowest priority number wins, with its time to live, and the first
//! defined of several with the same number. Each sink gets a copy of its own.
//!
//! # Conditions
//!
//! A route takes a message when its condition is true: not when it is false, null or undefined.
//!
//! | form | means |
//! |---|---|
//! | `'…'`, `"…"` | a string, with the escapes `\" \' \\ \uXXXX` |
//! | `12`, `-1.5e3`, `0x1F` | a number (a double) |
//! | `true false null undefined` | themselves |
//! | `name` | an application property: a string, or undefined; its name ignores case |
//! | `$name` | the application property `$name` if there is one; else, if it begins with `$body.`, a path into the body; else a system property |
//! | `{$name}` | the same without the application property |
//! | `$body.a.b[0].c` | the value at that path of a JSON body; null where the path breaks off |
//!
//! A body of at most 1 MiB is read when `contentType` is `application/json` and `contentEncoding` is `utf-8`, `utf-16` or
//! `utf-32`; else every path into it is undefined, as are objects, arrays, and strings that are a date and time.
//!
//! Operators, tightest first, all grouping to the left: unary `-`; `NOT`; `* / %`; `+ - ||` (`||` joins strings);
//! `< <= > >=`; `= != <>`; `AND`; `OR`; `??` (the left side if it is defined, else the right).
//!
//! Nothing is converted. A comparison of a string with a number is a fault when both types are known beforehand; when one
//! side is from the body, values of different types are unequal and neither is less. Whatever has an undefined operand is
//! undefined, but for `AND` and `OR`, which follow Kleene, and `??`. `NOT null` is true, `null AND x` is null, `null OR x`
//! is x. Strings are ordered by their UTF-16 code units. A number that is none (`0 / 0`, `sqrt(-1)`) is undefined.
//!
//! System properties: `messageId correlationId cid userId to ack contentType contentEncoding messageSchema operation
//! creationTime enqueuedTime expiryTimeUtc iothub-interface-id dt-subject`; who sent it: `connectionDeviceId
//! connectionModuleId outputName messageType edgeHubOriginInterface` (`internal` or `downstream`). Known, but on no
//! message while routes are asked: `inputName sequenceNumber edgeMessageId connectionAuthMethod
//! connectionDeviceGenerationId`.
//!
//! # Functions
//!
//! Their names have any case. An argument that is undefined, or from the body and of the wrong type, makes the result
//! undefined, but for `is_defined`, `is_number` and `is_string`, which are then false. A wrong number of arguments, or an
//! argument whose type is known to be wrong, is a fault.
//!
//! | function | gives |
//! |---|---|
//! | `abs(n) exp(n) square(n) sqrt(n) power(n, n)` | a number |
//! | `ceiling(n) floor(n) sign(n)` | a number |
//! | `as_number(s or n)` | the number in a string (`' -1,234.5e3 '`, `(5)`), undefined when it is none |
//! | `is_defined(x)` | false for undefined |
//! | `is_null(x) is_bool(x) is_number(x) is_string(x)` | whether x has that type; infinity is no number |
//! | `concat(s, s, …)` | the strings joined, two or more |
//! | `length(s)` | UTF-16 code units |
//! | `lower(s) upper(s)` | the string in that case |
//! | `substring(s, start[, length])` | a part, counted from 0; undefined outside |
//! | `index_of(s, part)` | where it is found, counted from 0, or -1 |
//! | `starts_with(s, part) ends_with(s, part) contains(s, part)` | true or false; the case counts |
//! | `twin_change_includes(path)` | FROM /twinChangeNotifications only: whether the change has the path, which begins with `properties.reported.`, `properties.desired.` or `tags.` |
//!
//! # Where this language surprises
//!
//! The longest token wins, and nearly every character can be part of a name. So spaces matter:
//!
//! ```
//! use holdfast_routes::{RouteDefinition, RouteTable};
//! let fault = |condition: &str| {
//!     let text = format!("FROM /messages WHERE {condition} INTO $upstream");
//!     RouteTable::compile(vec![RouteDefinition::new("r", text)]).err().map(|all| all[0].to_string())
//! };
//! assert!(fault("a != 'x'").is_none());
//! // The property `a!` is compared with a number.
//! assert!(fault("a!=1").unwrap().contains("`a!` was read as one name"));
//! // A number may begin with a minus.
//! assert!(fault("5 -3 = 2").unwrap().contains("put a space behind the minus"));
//! // Behind `/messages/*` a comment begins, if it ends anywhere.
//! let text = "FROM /messages/* WHERE a = '*/' INTO $upstream";
//! let faults = RouteTable::compile(vec![RouteDefinition::new("r", text)]).unwrap_err();
//! assert!(faults[0].to_string().contains("was read as a comment"));
//! ```
//!
//! # Quirks
//!
//! What manifests rely on is kept; what is plainly a bug is not, and what can only be a mistake is a fault. The head of each
//! file has the quirks of its part; those that change which routes compile or which messages they take are:
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `is_null($body.x)` | true for every value but a missing one | true for null and for a missing value |
//! | `$body.text > 5`, `$body.missing > 5` | ordered by type, so true | false |
//! | `$body.flag OR true`, the flag being neither true nor false | undefined | true |
//! | `true AND $body.flag` | a fault | works |
//! | `%` and unary `-` on body values | a fault | work |
//! | `$body.zero / $body.zero < 5` | true | undefined |
//! | `twin_change_includes` | a fault everywhere | works FROM /twinChangeNotifications |
//! | JSON with comments, single quotes or bare names | read | undefined |
//! | JSON with a byte order mark | undefined | read |
//! | text behind the sink | ignored | a fault |
//! | `$body.x AND 'text'`, `$body.a.*`, `$name[0]` | compile, and are undefined | faults |
//! | `e5` as a name | a number, undefined | a name |
//! | one bad route | the whole configuration is refused | the same: [`RouteTable::compile`] gives a table or faults |

mod condition;
mod error;
mod explain;
mod lexer;
mod number;
mod parser;
mod source;
mod table;

pub use condition::{
    Answer, Function, Type,
    body::{BodyFault, JSON_BYTES_MAX},
};
pub use error::{Fault, Place, RouteError, Span};
pub use explain::{Explanation, Finding, RouteExplanation, Seen, Verdict, Why};
pub use source::SourcePattern;
pub use table::{Match, Origin, Route, RouteDefinition, RouteTable};

/// Most bytes in the text of one route: 32 KiB, the size of a whole desired twin at IoT Hub, so no manifest has more.
pub const ROUTE_BYTES_MAX: usize = 32 * 1024;

/// How deep operators and brackets may stand in each other. It bounds the stack that parsing and asking need; members
/// of one list of `AND` or `OR` stand beside each other, however many they are.
pub const DEPTH_MAX: usize = 100;
