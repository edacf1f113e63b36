//! `Profile`: what an advert and a bid say of a machine beside its amounts, for choosing among nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::benchmark::Benchmark;
use crate::capability::Capability;

/// Most labels that are told: an advert goes to the whole mesh, so it stays small.
pub const MAX_PROFILE_LABELS: usize = 16;
/// Longest location, label or value of a label that is told, in bytes.
pub const MAX_PROFILE_TEXT: usize = 64;
/// All of a machine, in thousandths.
const WHOLE: u16 = 1000;

/// What a machine is like, as its owner says: a claim, for choosing, never for fitting. Nodes of earlier versions say
/// nothing of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Where it stands (`eu-west`, `CH`), at most [`MAX_PROFILE_TEXT`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Its labels, at most [`MAX_PROFILE_LABELS`], each at most [`MAX_PROFILE_TEXT`] bytes and as many of the value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How fast it is, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<Benchmark>,
    /// How much of it was taken when this was said, 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<u16>,
}

impl Profile {
    /// What may be told of a registered capability of which `load` thousandths are taken: what is too long, and labels
    /// beyond the bound, are left out.
    pub fn of(capability: &Capability, load: u16) -> Self {
        let is_short = |text: &str| text.len() <= MAX_PROFILE_TEXT;
        let labels = capability.labels.iter().filter(|(key, value)| is_short(key) && is_short(value));
        Self {
            location: capability.location.clone().filter(|location| is_short(location)),
            labels: labels
                .take(MAX_PROFILE_LABELS)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            benchmark: capability.benchmark,
            load: Some(load.min(WHOLE)),
        }
    }

    /// True if it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what is too long to travel.
    pub fn check(&self) -> Result<(), String> {
        let is_long = |text: &str| text.len() > MAX_PROFILE_TEXT;
        if self.labels.len() > MAX_PROFILE_LABELS {
            return Err(format!("a profile of more than {MAX_PROFILE_LABELS} labels"));
        }
        if self.location.as_deref().is_some_and(is_long)
            || self.labels.iter().any(|(key, value)| is_long(key) || is_long(value))
        {
            return Err(format!("a profile with a text of more than {MAX_PROFILE_TEXT} bytes"));
        }
        if self.load.is_some_and(|load| load > WHOLE) {
            return Err(format!("a load of more than {WHOLE} thousandths"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_left_out_by_the_teller_and_refused_by_the_reader() {
        let long = "x".repeat(MAX_PROFILE_TEXT + 1);
        let many = |count: usize| (0..count).map(|n| (format!("key-{n:02}"), "value".to_owned())).collect();
        let capability = Capability {
            location: Some(long.clone()),
            labels: [(long.clone(), String::new()), ("key".to_owned(), long.clone())].into(),
            ..Capability::default()
        };
        let told = Profile::of(&capability, 2000);
        assert_eq!(told, Profile { load: Some(1000), ..Profile::default() });
        let told = Profile::of(&Capability { labels: many(40), ..Capability::default() }, 0);
        assert_eq!((told.labels.len(), told.check()), (MAX_PROFILE_LABELS, Ok(())));
        let table = [
            (Profile::default(), None),
            (Profile { location: Some("x".repeat(MAX_PROFILE_TEXT)), ..Profile::default() }, None),
            (Profile { location: Some(long.clone()), ..Profile::default() }, Some("64 bytes")),
            (Profile { labels: many(17), ..Profile::default() }, Some("16 labels")),
            (Profile { labels: [(long, String::new())].into(), ..Profile::default() }, Some("64 bytes")),
            (Profile { load: Some(1001), ..Profile::default() }, Some("1000 thousandths")),
        ];
        for (profile, refused) in table {
            let said = profile.check().err();
            match refused {
                Some(text) => assert!(said.is_some_and(|said| said.contains(text)), "{profile:?}"),
                None => assert_eq!(said, None, "{profile:?}"),
            }
        }
    }
}
