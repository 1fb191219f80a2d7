//! Whether the way upstream is open: name, port, certificate.

use super::Finding;
use crate::run::parts;
use holdfast_config::Config;
use holdfast_net::{Timeouts, dial};

pub async fn check(config: &Config) -> Finding {
    let Some(upstream) = &config.upstream else {
        return Finding::Warning(
            "no upstream is configured: what is bound upstream waits in the log until it expires; write [upstream] with \
             url = \"mqtts://your-broker:8883\""
                .to_owned(),
        );
    };
    let target = match parts::target(upstream) {
        Ok(target) => target,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    match dial(&target, Timeouts::default()).await {
        Ok(stream) => {
            let how = stream.describe_encryption().unwrap_or_else(|| "plain TCP".to_owned());
            Finding::Ok(format!("{} answers ({how})", upstream.address))
        }
        Err(error) => Finding::Error(error.to_string()),
    }
}
