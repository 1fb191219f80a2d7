//! Conditions and their answers, as stories. Every row is asked of one message (see `support`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::Origin;
use holdfast_types::{Message, Source, SystemKey};
use support::{envelope, name, reading, rows, rows_from};

#[test]
fn literals_stand_for_themselves_and_only_true_is_true() {
    rows(
        &reading(),
        &[
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
            ("undefined", "undefined"),
            ("1", "undefined"),
            ("'true'", "undefined"),
            ("level", "undefined"),
            ("$body.temp", "undefined"),
            ("$body.on", "true"),
            ("$body.off", "false"),
            ("$body.none", "undefined"),
            ("(true)", "true"),
            ("((((true))))", "true"),
        ],
    );
}

#[test]
fn numbers_are_read_in_every_notation() {
    rows(
        &reading(),
        &[
            ("1 = 1", "true"),
            ("1 = 1.0", "true"),
            ("1=1", "true"),
            ("-1 < 0", "true"),
            ("-1 = - 1", "true"),
            ("0x1F = 31", "true"),
            ("0X1f = 31", "true"),
            ("0xFFFFFFFFFFFFFFFF > 0", "true"),
            ("0x10000000000000000 > 0", "fault"),
            (".5 = 0.5", "true"),
            ("-.5 = -0.5", "true"),
            ("1e3 = 1000", "true"),
            ("1E+3 = 1000", "true"),
            ("1e-3 = 0.001", "true"),
            ("1.5e2 = 150", "true"),
            ("-1.5E2 = -150", "true"),
            ("00012 = 12", "true"),
            ("1e400 > 1e300", "true"),
            ("5. = 5", "fault"),
            ("1_000 = 1000", "fault"),
            ("0x = 0", "fault"),
            ("0xG = 0", "fault"),
        ],
    );
}

#[test]
fn strings_have_two_quotes_and_four_escapes() {
    rows(
        &reading(),
        &[
            ("'a' = \"a\"", "true"),
            ("'' = ''", "true"),
            ("'' = empty", "true"),
            (r#"'it\'s' = "it's""#, "true"),
            (r#""say \"x\"" = 'say "x"'"#, "true"),
            (r#"'\\' = "\\""#, "true"),
            (r"length('\\') = 1", "true"),
            (r"'\u0041' = 'A'", "true"),
            (r"'\u00fc' = 'ü'", "true"),
            (r"'\uD83D\uDE00' = '😀'", "true"),
            (r"'\\u0041' = 'A'", "false"),
            (r"length('\\u0041') = 6", "true"),
            (r"'\uD83D' = 'x'", "fault"),
            (r"'\n' = 'x'", "fault"),
            (r"'\u12' = 'x'", "fault"),
            (r"'\U0041' = 'A'", "fault"),
            ("'open", "fault"),
            ("\"open", "fault"),
            ("'a b c' = 'a b c'", "true"),
            ("'line\nbreak' != 'line break'", "true"),
            ("'/* no comment' = '/* no comment'", "true"),
        ],
    );
}

#[test]
fn properties_are_strings_and_their_names_ignore_case() {
    rows(
        &reading(),
        &[
            ("level = 'high'", "true"),
            ("LEVEL = 'high'", "true"),
            ("unit = 'C'", "true"),
            ("level = 'HIGH'", "false"),
            ("level != 'low'", "true"),
            ("level <> 'low'", "true"),
            ("level <> 'high'", "false"),
            ("'high' = level", "true"),
            ("level = Unit", "false"),
            ("missing = 'x'", "undefined"),
            ("missing != 'x'", "undefined"),
            ("missing = missing", "undefined"),
            ("count = '42'", "true"),
            ("count = 42", "fault"),
            ("42 = count", "fault"),
            ("count > 41", "fault"),
            ("as_number(count) > 41", "true"),
            ("level = true", "fault"),
            ("level = null", "fault"),
            ("level = undefined", "fault"),
            ("true_text = 'true'", "true"),
            ("null_text = 'null'", "true"),
            ("name.with.dots = 'dots'", "true"),
            ("ключ = 'значение'", "true"),
            ("TRUE = 'shouted'", "true"),
            ("e5 = 'exponent'", "true"),
            ("$ = 'lone'", "true"),
        ],
    );
}

#[test]
fn the_longest_token_wins() {
    rows(
        &reading(),
        &[
            ("a!=1", "fault"),
            ("a!='1'", "true"),
            ("a! = '1'", "true"),
            ("a !='1'", "undefined"),
            ("a != '1'", "undefined"),
            ("a+b = 'sum'", "true"),
            ("a-b = 'dash'", "true"),
            ("-x = 'minus x'", "true"),
            ("it's = 'quoted'", "true"),
            ("1+1 = 'x'", "undefined"),
            ("1 +1 = 2", "fault"),
            ("1 + 1 = 2", "true"),
            ("3 - 1 = 2", "true"),
            ("3 -1 = 2", "fault"),
            ("3-1 = 2", "fault"),
            ("3 - -1 = 4", "true"),
            ("2*3 = 6", "fault"),
            ("2 * 3 = 6", "true"),
            ("2 *3 = 6", "fault"),
            ("6/3 = 2", "true"),
            ("(2)*(3) = 6", "true"),
            ("7%2 = 1", "fault"),
            ("7 % 2 = 1", "true"),
            ("'a'||'b' = 'ab'", "undefined"),
            ("'a' ||'b' = 'ab'", "fault"),
            ("'a' || 'b' = 'ab'", "true"),
            ("\"a\"||\"b\" = 'ab'", "true"),
            ("level='high'", "true"),
            ("level<>'low'", "true"),
            ("1<2", "true"),
            ("1<=2", "true"),
            ("2>=2", "true"),
            ("NOT(false)", "true"),
            ("NOTfalse = 'x'", "undefined"),
            ("true AND(true)", "true"),
            ("/* words */ true", "true"),
            ("true /* words */", "true"),
            ("1 /* one */ = /* and */ 1", "true"),
            ("6 /* stays open = 6", "fault"),
            ("\ttrue\r\n", "true"),
            ("true\u{a0}", "undefined"),
        ],
    );
}

#[test]
fn arithmetic_is_done_on_numbers_only() {
    rows(
        &reading(),
        &[
            ("1 + 2 * 3 = 7", "true"),
            ("(1 + 2) * 3 = 9", "true"),
            ("10 - 4 - 3 = 3", "true"),
            ("16 / 4 / 2 = 2", "true"),
            ("7 % 4 = 3", "true"),
            ("- 7 % 4 = -3", "true"),
            ("7.5 % 2 = 1.5", "true"),
            ("1 / 0 > 1e300", "true"),
            ("0 / 0 = 0", "undefined"),
            ("0 / 0 != 0", "undefined"),
            ("1 % 0 = 0", "undefined"),
            ("-(5) = - 5", "true"),
            ("- - 5 = 5", "true"),
            ("--5 = 5", "fault"),
            ("1 + '1' = 2", "fault"),
            ("1 + true = 2", "fault"),
            ("1 + null = 1", "fault"),
            ("1 + undefined = 1", "fault"),
            ("level + 1 = 1", "fault"),
            ("- level = 1", "fault"),
            ("- 'a' = 1", "fault"),
            ("- true = 1", "fault"),
            ("- null = 1", "fault"),
            ("level || '!' = 'high!'", "true"),
            ("level || count || 'x' = 'high42x'", "true"),
            ("level || missing = 'x'", "undefined"),
            ("level || 1 = 'x'", "fault"),
            ("1 || 2 = 'x'", "fault"),
            ("'a' || null = 'a'", "fault"),
        ],
    );
}

#[test]
fn comparisons_need_two_values_of_one_type() {
    rows(
        &reading(),
        &[
            ("1 < 2", "true"),
            ("2 < 1", "false"),
            ("2 <= 2", "true"),
            ("2 >= 3", "false"),
            ("3 > 2", "true"),
            ("0 = -0", "true"),
            ("'a' < 'b'", "true"),
            ("'B' < 'a'", "true"),
            ("'a' < 'aa'", "true"),
            ("'10' < '9'", "true"),
            ("'ä' > 'z'", "true"),
            ("'\u{ff5e}' > '😀'", "true"),
            ("true = true", "true"),
            ("true != false", "true"),
            ("true > false", "true"),
            ("false >= true", "false"),
            ("true <= true", "true"),
            ("null = null", "true"),
            ("null != null", "false"),
            ("null <= null", "true"),
            ("null >= null", "true"),
            ("null < null", "false"),
            ("null > null", "false"),
            ("undefined = undefined", "undefined"),
            ("undefined != undefined", "undefined"),
            ("undefined < undefined", "undefined"),
            ("1 = '1'", "fault"),
            ("1 < 'a'", "fault"),
            ("true = 1", "fault"),
            ("true = 'true'", "fault"),
            ("null = 1", "fault"),
            ("1 = null", "fault"),
            ("'a' = null", "fault"),
            ("null = false", "fault"),
            ("undefined = 1", "fault"),
            ("1 = undefined", "fault"),
            ("null = undefined", "fault"),
            ("1 == 1", "fault"),
            ("1 = = 1", "fault"),
            ("1 = 1 = true", "true"),
            ("1 < 2 = true", "true"),
            ("1 < 2 < 3", "fault"),
        ],
    );
}

#[test]
fn logic_has_three_values_and_null() {
    rows(
        &reading(),
        &[
            ("true AND true", "true"),
            ("true AND false", "false"),
            ("false AND undefined", "false"),
            ("undefined AND false", "false"),
            ("true AND undefined", "undefined"),
            ("undefined AND undefined", "undefined"),
            ("true OR undefined", "true"),
            ("undefined OR true", "true"),
            ("false OR undefined", "undefined"),
            ("undefined OR undefined", "undefined"),
            ("false OR false", "false"),
            ("false OR true", "true"),
            ("null AND true", "null"),
            ("true AND null", "null"),
            ("null AND false", "null"),
            ("null AND null", "null"),
            ("null OR false", "false"),
            ("null OR true", "true"),
            ("false OR null", "false"),
            ("null OR null", "null"),
            ("null AND undefined", "undefined"),
            ("null OR undefined", "undefined"),
            ("(null AND true) OR false", "false"),
            ("NOT (null AND true)", "true"),
            ("(null AND true) = null", "true"),
            ("NOT true", "false"),
            ("NOT false", "true"),
            ("NOT null", "true"),
            ("NOT undefined", "fault"),
            ("NOT (undefined AND true)", "undefined"),
            ("NOT missing = 'x'", "fault"),
            ("NOT (missing = 'x')", "undefined"),
            ("NOT (level = 'low')", "true"),
            ("NOT NOT true", "true"),
            ("NOT level", "fault"),
            ("NOT 1", "fault"),
            ("true AND 'x'", "fault"),
            ("level AND true", "fault"),
            ("1 OR true", "fault"),
            ("true and true", "true"),
            ("true Or false", "true"),
            ("nOt false", "true"),
            ("missing = 'x' OR level = 'high'", "true"),
            ("missing = 'x' AND level = 'high'", "undefined"),
            ("missing = 'x' AND level = 'low'", "false"),
            ("True", "undefined"),
            ("FALSE AND true", "fault"),
        ],
    );
}

#[test]
fn operators_group_from_the_tightest_to_the_loosest() {
    rows(
        &reading(),
        &[
            ("true OR true AND false", "true"),
            ("(true OR true) AND false", "false"),
            ("false AND false OR true", "true"),
            ("NOT false AND false", "false"),
            ("NOT (false AND false)", "true"),
            ("NOT true = false", "true"),
            ("NOT true OR true", "true"),
            ("1 + 1 = 2 AND 2 * 2 = 4", "true"),
            ("1 < 2 = 3 > 2", "true"),
            ("'a' || 'b' < 'b'", "true"),
            ("2 + 3 % 2 = 3", "true"),
            ("- 2 * 3 = -6", "true"),
            ("missing ?? 'x' = 'x'", "fault"),
            ("(missing ?? 'x') = 'x'", "true"),
            ("missing = 'x' ?? true", "true"),
            ("true ?? false OR false", "true"),
        ],
    );
}

#[test]
fn coalesce_takes_the_first_that_is_defined() {
    rows(
        &reading(),
        &[
            ("(level ?? 'x') = 'high'", "true"),
            ("(missing ?? level) = 'high'", "true"),
            ("(missing ?? gone ?? 'z') = 'z'", "true"),
            ("(missing ?? gone) = 'z'", "undefined"),
            ("(as_number(level) ?? 5) = 5", "true"),
            ("(1 ?? 2) = 1", "true"),
            ("(missing ?? 1) = 1", "fault"),
            ("(undefined ?? 'x') = 'x'", "fault"),
            ("undefined ?? undefined", "undefined"),
            ("null ?? null", "null"),
            ("($body.temp ?? 5) = 21.5", "true"),
            ("($body.when ?? 'none') = 'none'", "true"),
            ("($body.missing ?? 5) = 5", "false"),
            ("is_null($body.missing ?? 5)", "true"),
            ("(level ?? $body.name) = 'high'", "true"),
            ("(missing ?? $body.name) = 'boiler'", "true"),
            ("missing = 'a' ?? level = 'high'", "true"),
        ],
    );
}

#[test]
fn a_dollar_name_is_a_property_then_a_body_path_then_a_system_property() {
    rows(
        &reading(),
        &[
            ("$dollar = 'app'", "true"),
            ("$DOLLAR = 'app'", "true"),
            ("{$dollar} = 'app'", "undefined"),
            ("$messageId = 'app id'", "true"),
            ("{$messageId} = 'm-1'", "true"),
            ("{ $messageId } = 'm-1'", "true"),
            ("{$MESSAGEID} = 'm-1'", "true"),
            ("$body.shadow = 'app wins'", "true"),
            ("$BODY.shadow = 'app wins'", "true"),
            ("{$body.shadow} = 'body'", "true"),
            ("{messageId} = 'm-1'", "fault"),
            ("{$messageId = 'm-1'", "fault"),
            ("$messageId} = 'm-1'", "fault"),
            ("{} = 'm-1'", "fault"),
            ("$correlationId = 'c-1'", "true"),
            ("$cid = 'c-1'", "true"),
            ("$userId = 'u-1'", "true"),
            ("$contentType = 'application/json'", "true"),
            ("$contentEncoding = 'utf-8'", "true"),
            ("$iothub-interface-id = 'i-1'", "true"),
            ("$dt-subject = 'comp'", "true"),
            ("$to = 'x'", "undefined"),
            ("is_defined($to)", "false"),
            ("$connectionDeviceId = 'edge'", "true"),
            ("$connectionModuleId = 'sensor'", "true"),
            ("$outputName = 'temp'", "true"),
            ("$inputName = 'temp'", "undefined"),
            ("$sequenceNumber = '1'", "undefined"),
            ("$connectionAuthMethod = 'x'", "undefined"),
            ("$edgeHubOriginInterface = 'internal'", "true"),
            ("$creationTime = '2026-01-31T12:00:00.2500000Z'", "true"),
            ("$enqueuedTime > '2026-01-31T12:00:00'", "true"),
            ("$nonsense = 'x'", "undefined"),
            ("$body = 'x'", "undefined"),
            ("$messageId = 1", "fault"),
            ("$messageId[0] = 'x'", "fault"),
            ("messageId = 'm-1'", "undefined"),
        ],
    );
    rows_from(&reading(), Origin::Downstream, &[("$edgeHubOriginInterface = 'downstream'", "true")]);
    let child = Source::Child { child: name("press"), topic: None };
    let mut message = Message::new("{}");
    rows(&envelope(child.clone(), message.clone()), &[("is_defined($connectionModuleId)", "false")]);
    message.system.set(SystemKey::ConnectionModule, "drive");
    message.system.set(SystemKey::ConnectionAuthMethod, "m");
    message.system.set(SystemKey::ConnectionGeneration, "g-1");
    rows(
        &envelope(child, message),
        &[
            ("$connectionDeviceId = 'press'", "true"),
            ("$connectionModuleId = 'drive'", "true"),
            ("$connectionAuthMethod = 'm'", "true"),
            ("$connectionDeviceGenerationId = 'g-1'", "true"),
        ],
    );
}

#[test]
fn body_paths_lead_to_scalars() {
    rows(
        &reading(),
        &[
            ("$body.temp = 21.5", "true"),
            ("$body.temp > 21", "true"),
            ("21 < $body.temp", "true"),
            ("$BODY.temp > 21", "true"),
            ("$Body.temp > 21", "true"),
            ("$body.Temp > 21", "false"),
            ("$body.Case = 1 AND $body.case = 2", "true"),
            ("$body.name = 'boiler'", "true"),
            ("$body.place.city = 'Oslo'", "true"),
            ("$body.place.rooms[1].t = 2", "true"),
            ("$body.place.rooms[1].ok", "true"),
            ("$body.list[0] = 1", "true"),
            ("$body.list[1] = 'two'", "true"),
            ("$body.list[2].three = 3", "true"),
            ("$body.list[3][1] = 5", "true"),
            ("$body.list[9] = 1", "false"),
            ("$body.big > 1e19", "true"),
            ("$body.twin-a = 1", "true"),
            ("$body.a_b = 'u'", "true"),
            ("$body.ünï = 'code'", "true"),
            ("$body.on = true", "true"),
            ("$body.on", "true"),
            ("$body.nothing = null", "true"),
            ("$body.missing = null", "true"),
            ("$body.missing.deeper = null", "true"),
            ("$body.name.deeper = null", "true"),
            ("$body.name[0] = null", "true"),
            ("null = $body.nothing", "true"),
            ("$body.name != null", "true"),
            ("$body.nothing != null", "false"),
            ("$body.place = null", "undefined"),
            ("$body.list = null", "undefined"),
            ("$body.place != null", "undefined"),
            ("is_defined($body.place)", "false"),
            ("$body.when = '2026-01-31T12:00:00Z'", "undefined"),
            ("is_defined($body.when)", "false"),
            ("$body.day = '2026-01-31'", "true"),
            ("$body.temp = undefined", "fault"),
            ("undefined = $body.temp", "fault"),
            ("$body.place.rooms[0].t + $body.place.rooms[1].t = 3", "true"),
            ("$body. = 1", "fault"),
            ("$body.a..b = 1", "fault"),
            ("$body.a. = 1", "fault"),
            ("$body.[0] = 1", "fault"),
            ("$body[0] = 1", "fault"),
            ("$body.list[*] = 1", "fault"),
            ("$body.list[-1] = 1", "fault"),
            ("$body.list[] = 1", "fault"),
            ("$body.list[0 = 1", "fault"),
            ("$body.list[0]x = 1", "fault"),
            ("$body.list] = 1", "fault"),
            ("$body.list['a'] = 1", "fault"),
            ("$body.list[0:1] = 1", "fault"),
            ("$body.place.* = 1", "fault"),
            ("$body.0 = 1", "fault"),
            ("$body.list[99999999999999999999] = 1", "fault"),
        ],
    );
}

#[test]
fn body_values_of_another_type_are_false_and_never_an_error() {
    rows(
        &reading(),
        &[
            ("$body.name = 5", "false"),
            ("$body.name > 5", "false"),
            ("$body.name < 5", "false"),
            ("$body.name != 5", "true"),
            ("$body.temp = 'x'", "false"),
            ("$body.digits = 7", "false"),
            ("$body.on = 'true'", "false"),
            ("$body.on = 1", "false"),
            ("$body.missing > 5", "false"),
            ("$body.missing < 5", "false"),
            ("$body.missing != 5", "true"),
            ("$body.name = $body.temp", "false"),
            ("$body.temp = $body.temp", "true"),
            ("$body.name = level", "false"),
            ("$body.temp + 1 = 22.5", "true"),
            ("1 + $body.temp = 22.5", "true"),
            ("$body.temp - 1.5 = 20", "true"),
            ("$body.temp * 2 = 43", "true"),
            ("$body.temp / 2 = 10.75", "true"),
            ("$body.neg % 2 = -1", "true"),
            ("- $body.neg = 3", "true"),
            ("$body.name + 1 = 2", "undefined"),
            ("$body.missing + 1 = 1", "undefined"),
            ("$body.zero / $body.zero < 5", "undefined"),
            ("1 / $body.zero > 5", "true"),
            ("$body.name || '!' = 'boiler!'", "true"),
            ("$body.temp || '!' = 'x'", "undefined"),
            ("NOT $body.off", "true"),
            ("NOT $body.on", "false"),
            ("NOT $body.name", "undefined"),
            ("NOT $body.missing", "undefined"),
            ("$body.on AND true", "true"),
            ("true AND $body.on", "true"),
            ("$body.on AND $body.off", "false"),
            ("$body.name AND true", "undefined"),
            ("$body.missing AND false", "false"),
            ("$body.missing OR true", "true"),
            ("$body.missing OR false", "undefined"),
            ("$body.on OR level = 'low'", "true"),
            ("$body.on AND 'x'", "fault"),
            ("'x' AND $body.on", "fault"),
        ],
    );
}
