//! `Ability`: what somebody may do at a node, as a path. Whoever has a path has everything below it; `/` is all.
//!
//! [`crate::Token`]s carry abilities, trust is given in them, and every word that a node takes names the one that it
//! needs. A [`Role`] is a name for what people usually mean.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::AllocationId;

/// Longest ability in bytes.
const MAX_LENGTH: usize = 128;
/// Most names in the path of an ability.
const MAX_DEPTH: usize = 8;

/// A path of names: `/` or `/dms/request/bids`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ability(Box<str>);

/// The text is no ability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an ability is / or a path like /dms/request: at most {MAX_DEPTH} names of lower-case letters, digits and dashes, \
     {MAX_LENGTH} bytes in all"
)]
pub struct AbilityError;

/// What is below it concerns requesters: who may have jobs run here.
pub const REQUEST: &str = "/dms/request";
/// To ask for bids, and give them back.
pub const REQUEST_BIDS: &str = "/dms/request/bids";
/// To invoke a bid.
pub const REQUEST_INVOKE: &str = "/dms/request/invoke";
/// What is below it concerns providers: whom our jobs may be given to.
pub const PROVIDE: &str = "/dms/provide";
/// To bid on our jobs.
pub const PROVIDE_BID: &str = "/dms/provide/bid";
/// What is below it concerns single allocations of others: to speak to their programs, and to see how they stand. No
/// role has it but the one that may do all, and an open mesh does not give it either.
pub const ALLOCATION: &str = "/dms/allocation";

/// To speak to the program of one allocation, and to see how it stands.
pub fn allocation(id: AllocationId) -> Ability {
    Ability(format!("{ALLOCATION}/{id}").into())
}

impl Ability {
    /// Everything.
    pub fn all() -> Self {
        Self("/".into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if whoever has this has `other` too.
    pub fn covers(&self, other: &str) -> bool {
        covers(&self.0, other)
    }
}

/// True if whoever has the path `have` has `wanted` too.
pub fn covers(have: &str, wanted: &str) -> bool {
    match wanted.strip_prefix(have) {
        Some(rest) => have == "/" || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// True if one of `abilities` covers `wanted`.
pub fn any_covers<'a>(abilities: impl IntoIterator<Item = &'a Ability>, wanted: &str) -> bool {
    abilities.into_iter().any(|ability| ability.covers(wanted))
}

impl FromStr for Ability {
    type Err = AbilityError;

    fn from_str(text: &str) -> Result<Self, AbilityError> {
        if text == "/" {
            return Ok(Self::all());
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !name.starts_with('-')
        };
        let names = text.strip_prefix('/').filter(|_| text.len() <= MAX_LENGTH).ok_or(AbilityError)?;
        let is_path = names.split('/').all(is_name) && names.split('/').count() <= MAX_DEPTH;
        is_path.then(|| Self(text.into())).ok_or(AbilityError)
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Ability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Ability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What somebody is to a node, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It may have jobs run here.
    Requester,
    /// It may run our jobs.
    Provider,
    /// Both.
    Member,
    /// All that the owner may, and to let others in.
    Admin,
}

impl Role {
    /// Every role, with its name.
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Requester, "requester"),
        (Self::Provider, "provider"),
        (Self::Member, "member"),
        (Self::Admin, "admin"),
    ];

    /// What it allows.
    pub fn abilities(self) -> BTreeSet<Ability> {
        let of = |texts: &[&str]| texts.iter().map(|text| Ability((*text).into())).collect();
        match self {
            Self::Requester => of(&[REQUEST]),
            Self::Provider => of(&[PROVIDE]),
            Self::Member => of(&[PROVIDE, REQUEST]),
            Self::Admin => of(&["/"]),
        }
    }

    /// How many tokens may follow on one of this role: only an admin lets others in.
    pub fn depth(self) -> u8 {
        match self {
            Self::Requester | Self::Provider | Self::Member => 0,
            Self::Admin => 3,
        }
    }
}

/// The text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is requester, provider, member or admin")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role).ok_or(RoleError)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(role, _)| role == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_covers_itself_and_what_is_below_it() {
        let table = [
            ("/", "/", true),
            ("/", "/dms", true),
            ("/dms", "/", false),
            ("/dms", "/dms", true),
            ("/dms", "/dms/request/bids", true),
            ("/dms", "/dmsx", false),
            ("/dms/request", "/dms/provide", false),
            ("/dms/request", "/dms/requests", false),
            ("/dms/request/bids", "/dms/request", false),
        ];
        for (have, want, covers) in table {
            assert_eq!(have.parse::<Ability>().unwrap().covers(want), covers, "{have} {want}");
        }
    }

    #[test]
    fn text_that_is_no_path_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_LENGTH));
        let deep = "/a".repeat(MAX_DEPTH + 1);
        let wrong =
            ["", "dms", "//", "/dms/", "/dms//x", "/DMS", "/d ms", "/dms/..", "/dms/*", "/ä", "/-a", "/a\0"];
        for text in wrong.into_iter().chain([long.as_str(), deep.as_str()]) {
            assert_eq!(text.parse::<Ability>(), Err(AbilityError), "{text:?}");
        }
        for text in [REQUEST, REQUEST_BIDS, REQUEST_INVOKE, PROVIDE, PROVIDE_BID, &"/a".repeat(MAX_DEPTH)] {
            assert_eq!(text.parse::<Ability>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_role_is_named_once_and_only_an_admin_lets_others_in() {
        for (role, name) in Role::NAMES {
            assert_eq!((name.parse(), role.to_string()), (Ok(role), name.to_owned()));
            assert_eq!(role.depth() > 0, role == Role::Admin);
            assert!(role.abilities().iter().all(|it| it.as_str().parse::<Ability>().as_ref() == Ok(it)));
        }
        assert_eq!("root".parse::<Role>(), Err(RoleError));
        assert!(any_covers(&Role::Member.abilities(), REQUEST_INVOKE));
        assert!(any_covers(&Role::Member.abilities(), PROVIDE_BID));
        assert!(!any_covers(&Role::Requester.abilities(), PROVIDE_BID));
        assert!(!any_covers(&Role::Provider.abilities(), REQUEST_BIDS));
    }

    proptest! {
        #[test]
        fn what_covers_covers_what_that_covers(names in prop::collection::vec("[a-c]{1,2}", 3)) {
            let path = |count: usize| -> Ability {
                if count == 0 { Ability::all() } else { format!("/{}", names[..count].join("/")).parse().unwrap() }
            };
            for (a, b) in (0..=3).flat_map(|a| (0..=3).map(move |b| (a, b))) {
                prop_assert_eq!(path(a).covers(path(b).as_str()), a <= b);
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "(/[a-z0-9/-]{0,20}|.{0,40})") {
            if let Ok(ability) = text.parse::<Ability>() {
                prop_assert_eq!(ability.as_str(), text);
            }
        }
    }
}
