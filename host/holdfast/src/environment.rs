//! What the environment says of the network: `UpstreamProtocol` as IoT Edge has it, `HTTPS_PROXY` and `NO_PROXY` as most
//! programs have them. The configuration goes before the proxy's variables; the protocol's goes before the configuration,
//! since a deployment sets it for one machine.

use anyhow::{Context, bail};
use holdfast_config::{Carrier, Config, Password, Proxy, Secret};

/// Takes over what the environment says.
pub fn apply(config: &mut Config) -> anyhow::Result<()> {
    apply_of(config, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn apply_of(config: &mut Config, of: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    if let (Some(upstream), Some(text)) = (&mut config.upstream, of("UpstreamProtocol")) {
        let Some(carrier) = Carrier::of_iot_edge(&text) else {
            bail!(
                "UpstreamProtocol is {text:?} in the environment; write Mqtt, MqttWs or Quic (AMQP is not spoken here)"
            );
        };
        upstream.keep_only(carrier);
    }
    if config.net.proxy.is_none() {
        let named = ["HTTPS_PROXY", "https_proxy"].into_iter().find_map(|name| Some((name, of(name)?)));
        if let Some((name, text)) = named {
            let except = of("NO_PROXY").or_else(|| of("no_proxy")).unwrap_or_default();
            let parsed = proxy(&text, &except);
            // The text may hold a password.
            config.net.proxy = Some(parsed.with_context(|| {
                format!("{name} in the environment is no http://[user:password@]host:port")
            })?);
        }
    }
    Ok(())
}

/// `[http://][user:password@]host:port`.
fn proxy(text: &str, except: &str) -> Option<Proxy> {
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, rest),
    };
    let (user, password) = match credentials.map(|both| both.split_once(':').unwrap_or((both, ""))) {
        Some((user, password)) => {
            (Some(decoded(user)), Some(Password::Inline(Secret::new(&decoded(password)))))
        }
        None => (None, None),
    };
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let except = except.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    let known = holdfast_net::HostName::new(host).is_ok();
    known.then_some(())?;
    Some(Proxy { host: host.to_owned(), port: port.parse().ok()?, user, password, except })
}

/// `%40` and the like: how such an address holds an `@`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let byte = match (first, more) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { more.get(2..).unwrap_or_default() } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether `host` is reached without the proxy: it is named, or ends as is named.
pub fn is_excepted(host: &str, except: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    except.iter().any(|one| {
        let one = one.to_ascii_lowercase();
        let end = one.strip_prefix("*.").or_else(|| one.strip_prefix('.')).unwrap_or(&one);
        // As curl has it: a name stands for the names below it, too.
        one == "*" || host == end || host.strip_suffix(end).is_some_and(|before| before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut config = Config::parse(text, Path::new("holdfast.toml"), "edge-1").unwrap();
        let of = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        apply_of(&mut config, of)?;
        Ok(config)
    }

    fn ways(config: &Config) -> Vec<String> {
        config
            .upstream
            .iter()
            .flat_map(|up| &up.places)
            .flat_map(|p| &p.ways)
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn upstream_protocol_names_the_one_way_and_an_address_keeps_its_port() {
        let text = "[upstream]\nurl = \"mqtts://hub:8884\"\n";
        let with = |value| config(text, &[("UpstreamProtocol", value)]);
        assert_eq!(ways(&with("Mqtt").unwrap()), ["mqtts://hub:8884"]);
        assert_eq!(ways(&with("MqttWs").unwrap()), ["wss://hub:443/mqtt"]);
        assert_eq!(ways(&with("QUIC").unwrap()), ["quic://hub:14567"]);
        let error = with("Amqp").unwrap_err().to_string();
        assert!(error.contains("Mqtt, MqttWs or Quic"), "{error}");
        assert!(
            config("", &[("UpstreamProtocol", "Amqp")]).is_ok(),
            "there is no link that it could concern"
        );
    }

    #[test]
    fn a_proxy_of_the_environment_is_taken_where_the_configuration_names_none() {
        let environment =
            [("HTTPS_PROXY", "http://edge:p%40ss@proxy:3128/"), ("NO_PROXY", "localhost, .plant")];
        let proxy = config("", &environment).unwrap().net.proxy.unwrap();
        assert_eq!((&*proxy.host, proxy.port, proxy.user.as_deref()), ("proxy", 3128, Some("edge")));
        assert_eq!(proxy.password, Some(Password::Inline(Secret::new("p@ss"))));
        for (host, excepted) in [
            ("localhost", true),
            ("hub.plant", true),
            ("hub.PLANT.", true),
            ("plant.example", false),
            ("xplant", false),
        ] {
            assert_eq!(is_excepted(host, &proxy.except), excepted, "{host}");
        }
        let own = "[net.proxy]\nurl = \"http://mine:8080\"\n";
        assert_eq!(config(own, &environment).unwrap().net.proxy.unwrap().host, "mine");
        let error = config("", &[("https_proxy", "edge:secret@proxy")]).unwrap_err().to_string();
        assert!(error.contains("https_proxy") && !error.contains("secret"), "{error}");
    }
}
