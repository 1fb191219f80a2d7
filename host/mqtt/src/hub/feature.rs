//! What a client asks for by subscribing.

/// What a subscription turns on. Filters of the dialect are not matched with topics: each stands for one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Messages from the cloud to the device.
    CloudToDevice,
    /// Messages to the inputs of the module.
    Inputs,
    /// Answers to what it asks of its twin.
    TwinResponses,
    /// Changes of its desired properties.
    DesiredPatches,
    /// Calls of its methods.
    Methods,
}

impl Feature {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::CloudToDevice, Self::Inputs, Self::TwinResponses, Self::DesiredPatches, Self::Methods];

    /// What `filter` turns on for this client; none if it is no filter of the dialect, or is another client's. Such a
    /// subscription is granted and means nothing.
    pub fn of(filter: &str, device: &str, module: Option<&str>) -> Option<Self> {
        if filter.starts_with("$iothub/methods/POST/") {
            return Some(Self::Methods);
        }
        if filter.starts_with("$iothub/twin/PATCH/properties/desired/") {
            return Some(Self::DesiredPatches);
        }
        if filter == "$iothub/twin/res/#" {
            return Some(Self::TwinResponses);
        }
        let own = filter.strip_prefix("devices/")?.strip_prefix(device)?.strip_prefix('/')?;
        match module {
            None => (own == "messages/devicebound/#").then_some(Self::CloudToDevice),
            Some(module) => {
                let inputs = own.strip_prefix("modules/")?.strip_prefix(module)?.strip_prefix('/')?;
                (inputs == "#" || (inputs.starts_with("inputs/") && inputs.ends_with("/#")))
                    .then_some(Self::Inputs)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_turn_on_what_they_stand_for() {
        use Feature as F;
        for (filter, device, module) in [
            ("devices/press/messages/devicebound/#", Some(F::CloudToDevice), None),
            ("devices/press/modules/m/#", None, Some(F::Inputs)),
            ("devices/press/modules/m/inputs/#", None, Some(F::Inputs)),
            ("devices/press/modules/m/inputs/a/#", None, Some(F::Inputs)),
            ("$iothub/twin/res/#", Some(F::TwinResponses), Some(F::TwinResponses)),
            ("$iothub/twin/PATCH/properties/desired/#", Some(F::DesiredPatches), Some(F::DesiredPatches)),
            ("$iothub/methods/POST/#", Some(F::Methods), Some(F::Methods)),
            ("$iothub/methods/POST/reboot/#", Some(F::Methods), Some(F::Methods)),
            ("devices/oven/messages/devicebound/#", None, None),
            ("devices/press/modules/n/inputs/#", None, None),
            ("devices/press7/messages/devicebound/#", None, None),
            ("devices/press/messages/events/#", None, None),
            ("devices/press/modules/m/other/#", None, None),
            ("devices/+/messages/devicebound/#", None, None),
            ("$iothub/twin/res/+", None, None),
            ("$iothub/#", None, None),
            ("#", None, None),
            ("", None, None),
        ] {
            assert_eq!(Feature::of(filter, "press", None), device, "{filter}");
            assert_eq!(Feature::of(filter, "press", Some("m")), module, "{filter}");
        }
    }
}
