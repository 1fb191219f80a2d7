//! The name that a client gives itself: client identifier and user name of CONNECT.

use super::percent;

/// Who a client of the dialect says it is, and how it speaks. Nothing of it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName {
    /// The hub that it wants; the name of the hub even where the client has dialled a gateway.
    pub host: String,
    /// The device.
    pub device: String,
    /// The module of that device, if the client is one.
    pub module: Option<String>,
    /// Version of the interface. It has to be there, and no two SDKs give the same.
    pub api_version: String,
    /// Which SDK it is.
    pub client_type: Option<String>,
    /// The model of a digital twin.
    pub model_id: Option<String>,
    /// The devices from the client, which comes first, to the edge that connects on its behalf, which comes last. Empty if
    /// the client speaks for itself.
    pub auth_chain: Vec<String>,
}

/// The client identifier and the user name are not those of a client of the dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientName {
    /// The user name has no slash: the client speaks plain MQTT.
    #[error("the user name {0:?} is not of the form host/device/?api-version=…")]
    NotDialect(String),
    /// The user name has slashes but not the form.
    #[error(
        "the user name {0:?} is not of the form host/device/?api-version=… or host/device/module/?api-version=…"
    )]
    Form(String),
    /// The user name names no version.
    #[error("the user name {0:?} has no api-version; add ?api-version=2021-04-12 as its last part")]
    NoVersion(String),
    /// The host, the device or the module is missing or cannot stand in a topic.
    #[error("the {part} {text:?} in the user name cannot be served over MQTT: it is empty, or holds + or #")]
    Id {
        /// Which part of the user name.
        part: &'static str,
        /// What it says.
        text: String,
    },
    /// The two do not name the same client.
    #[error(
        "the client identifier {client_id:?} is not the {expected:?} of the user name; they must be equal"
    )]
    Mismatch {
        /// What CONNECT gave.
        client_id: String,
        /// What the user name asks for.
        expected: String,
    },
}

impl ClientName {
    /// Reads both. The user name is `{host}/{device}[/{module}]/[?]{pairs}`; names in it are not encoded, values of
    /// `pairs` are. Of a name that comes twice the first counts; unknown names are ignored. The client identifier is
    /// `{device}` or `{device}/{module}`.
    ///
    /// # Errors
    /// [`InvalidClientName::NotDialect`] if the client does not try to speak the dialect; otherwise what is wrong.
    pub fn parse(client_id: &str, user_name: &str) -> Result<Self, InvalidClientName> {
        let parts: Vec<&str> = user_name.split('/').collect();
        let (host, device, module, pairs) = match parts.as_slice() {
            [_] => return Err(InvalidClientName::NotDialect(user_name.to_owned())),
            [host, device, pairs] => (*host, *device, None, *pairs),
            [host, device, module, pairs] => (*host, *device, Some(*module), *pairs),
            _ => return Err(InvalidClientName::Form(user_name.to_owned())),
        };
        let pairs = match pairs.strip_prefix('?') {
            Some(pairs) => pairs,
            None if pairs.contains("api-version=") => pairs,
            None => return Err(InvalidClientName::Form(user_name.to_owned())),
        };
        let host = id("host", host)?;
        let device = id("device", device)?;
        let module = module.map(|module| id("module", module)).transpose()?;
        let expected = match &module {
            Some(module) => format!("{device}/{module}"),
            None => device.clone(),
        };
        if client_id != expected {
            return Err(InvalidClientName::Mismatch { client_id: client_id.to_owned(), expected });
        }
        Ok(Self {
            host,
            device,
            module,
            api_version: value(pairs, "api-version")
                .ok_or_else(|| InvalidClientName::NoVersion(user_name.to_owned()))?,
            client_type: value(pairs, "DeviceClientType"),
            model_id: value(pairs, "model-id"),
            auth_chain: value(pairs, "auth-chain")
                .map(|chain| chain.split(';').map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    }
}

fn id(part: &'static str, text: &str) -> Result<String, InvalidClientName> {
    let text = text.trim();
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err(InvalidClientName::Id { part, text: text.to_owned() });
    }
    Ok(text.to_owned())
}

/// The first value of a name; none if it is blank.
fn value(pairs: &str, name: &str) -> Option<String> {
    let mut values = pairs.split('&').filter_map(|pair| match pair.split_once('=') {
        Some((known, value)) => (known == name).then_some(value),
        None => (pair == name).then_some(""),
    });
    values.next().map(|value| percent::decode(value).into_owned()).filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(client_id: &str, user_name: &str) -> (String, String, Option<String>, String) {
        let name = ClientName::parse(client_id, user_name).unwrap();
        (name.host, name.device, name.module, name.api_version)
    }

    fn expected(
        device: &str,
        module: Option<&str>,
        version: &str,
    ) -> (String, String, Option<String>, String) {
        ("hub.example.net".to_owned(), device.to_owned(), module.map(str::to_owned), version.to_owned())
    }

    #[test]
    fn the_names_that_sdks_give_are_read() {
        for (client_id, user_name, device, module, version) in [
            (
                "press",
                "hub.example.net/press/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11%29",
                "press",
                None,
                "2019-10-01",
            ),
            (
                "press",
                "hub.example.net/press/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)",
                "press",
                None,
                "2021-04-12",
            ),
            ("press", "hub.example.net/press/api-version=2016-11-14", "press", None, "2016-11-14"),
            ("press/m", "hub.example.net/press/m/?api-version=2018-06-30", "press", Some("m"), "2018-06-30"),
            ("press/m", "hub.example.net/press/m/api-version=1&x", "press", Some("m"), "1"),
            ("a%2Fb", "hub.example.net/a%2Fb/?api-version=1", "a%2Fb", None, "1"),
            ("?x", "hub.example.net/?x/?api-version=1", "?x", None, "1"),
            ("d", "hub.example.net/ d /?other=2&api-version=1&api-version=2", "d", None, "1"),
        ] {
            assert_eq!(parts(client_id, user_name), expected(device, module, version), "{user_name}");
        }
    }

    #[test]
    fn the_rest_of_a_user_name_is_read_too() {
        let user = "hub/leaf/?api-version=1&DeviceClientType=py%2F2&model-id=dtmi%3Aa%3Bb%3B1&auth-chain=leaf%3Bmid;edge";
        let name = ClientName::parse("leaf", user).unwrap();
        assert_eq!(name.client_type.as_deref(), Some("py/2"));
        assert_eq!(name.model_id.as_deref(), Some("dtmi:a;b;1"));
        assert_eq!(name.auth_chain, ["leaf", "mid", "edge"]);
        let bare = ClientName::parse("leaf", "hub/leaf/?api-version=1&model-id=&auth-chain=").unwrap();
        assert_eq!((bare.client_type, bare.model_id, bare.auth_chain), (None, None, vec![]));
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_the_reason() {
        type Kind = fn(&InvalidClientName) -> bool;
        let cases: [(&str, &str, Kind); 11] = [
            ("press", "press", |e| matches!(e, InvalidClientName::NotDialect(_))),
            ("press", "", |e| matches!(e, InvalidClientName::NotDialect(_))),
            ("press", "hub/press", |e| matches!(e, InvalidClientName::Form(_))),
            ("press", "hub/press/x", |e| matches!(e, InvalidClientName::Form(_))),
            ("press", "hub/press/m/x/?api-version=1", |e| matches!(e, InvalidClientName::Form(_))),
            ("press", "hub/press/?x=1", |e| matches!(e, InvalidClientName::NoVersion(_))),
            ("press", "hub/press/?api-version=", |e| matches!(e, InvalidClientName::NoVersion(_))),
            ("", "hub//?api-version=1", |e| matches!(e, InvalidClientName::Id { part: "device", .. })),
            ("a+", "hub/a+/?api-version=1", |e| matches!(e, InvalidClientName::Id { part: "device", .. })),
            ("oven", "hub/press/?api-version=1", |e| matches!(e, InvalidClientName::Mismatch { .. })),
            ("press", "hub/press/m/?api-version=1", |e| matches!(e, InvalidClientName::Mismatch { .. })),
        ];
        for (client_id, user_name, is_expected) in cases {
            let error = ClientName::parse(client_id, user_name).unwrap_err();
            assert!(is_expected(&error), "{user_name}: {error}");
        }
    }
}
