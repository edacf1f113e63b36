//! What the API, the CLI and tests ask about preferences; what they are is in [`crate::orchestrator::preferences`].

use dms_actors::Message;
use dms_messages::{Did, Millis, Price, Requirement};
use serde::{Deserialize, Serialize};

use crate::commands::CommandError;
pub use crate::orchestrator::preferences::{Change, DEFAULTS, OwnRules};

/// Asks by what the node chooses.
#[derive(Debug)]
#[doc(alias = "getPreferences")]
pub struct GetPreferences;

/// By what a node chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferencesView {
    /// The preferences, as the owner wrote them (TOML); empty if nothing was ever said, or all of it taken back.
    pub text: String,
    /// Why the text cannot be used, if another program wrote it: then the defaults hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Message for GetPreferences {
    type Reply = PreferencesView;
}

/// Sets by what the node chooses, from the next round and the next request on. Answered with what changes, when that is
/// on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "setPreferences")]
pub struct SetPreferences {
    /// The preferences (TOML); empty for the defaults.
    pub text: String,
}

impl Message for SetPreferences {
    type Reply = Result<Vec<Change>, CommandError>;
}

/// What a test is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A job that is in memory here.
    Job {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// A pod that nobody has handed in.
    Pod {
        /// What it needs.
        requirement: Requirement,
        /// How long it may run at most.
        run_time: Millis,
        /// Highest acceptable price per hour.
        #[serde(default)]
        max_price: Option<Price>,
    },
}

/// Asks how each known node would be judged for a pod. Nobody is asked for a bid: adverts are judged, and bids may say
/// something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestPreferences {
    /// Which pod.
    pub subject: Subject,
}

impl Message for TestPreferences {
    type Reply = Result<PreferencesTest, CommandError>;
}

/// How each known node is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferencesTest {
    /// The rules whose scores are compared, the most important first.
    pub order: Vec<String>,
    /// The nodes, the best first, those that are rejected last.
    pub candidates: Vec<JudgedCandidate>,
}

/// How one node is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedCandidate {
    /// Who.
    pub did: Did,
    /// True if it is the node that was asked.
    pub is_me: bool,
    /// Its place, from 1; none if a rule rejects it.
    pub rank: Option<usize>,
    /// True if it is asked for a bid: also where what rejects it now may be otherwise by then.
    #[serde(default)]
    pub is_asked: bool,
    /// What the pod costs there per hour, by its advert.
    pub price: Price,
    /// What each rule says.
    pub verdicts: Vec<RuleVerdict>,
}

/// What kind of verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// It may be taken.
    Accept,
    /// It may not.
    Reject,
    /// It may be taken, and is so good.
    Score,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: String,
    /// What it says.
    pub verdict: VerdictKind,
    /// The score: more is better; compared with scores of the same rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    /// The same as people read it: the price itself, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_text: Option<String>,
    /// Why it rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
