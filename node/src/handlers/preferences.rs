//! By what the node chooses: `getPreferences`, `setPreferences`, and how the nodes that are known would be judged.
//!
//! The text lies in the books; the rules are made of it when it is used first, so whatever the books say is what holds:
//! after a change, after a restart, and after the disk has failed. A change holds from the next round and the next
//! request on.

use std::sync::Arc;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::{BidRequestId, Did, Price, Requirement};
use dms_storage::{Books, Entry, Event};

use crate::commands::CommandError;
use crate::listings;
use crate::node::Node;
use crate::orchestrator::comparator::{Candidate, Request, Rule, Verdict};
use crate::orchestrator::history::History;
use crate::orchestrator::preferences::{self, OwnRules, Preferences};
use crate::orchestrator::pricing::{self, Loads, price_per_hour};
use crate::orchestrator::{discovery, matching};
use crate::preferences::{
    GetPreferences, JudgedCandidate, PreferencesTest, PreferencesView, RuleVerdict, SetPreferences, Subject,
    TestPreferences, VerdictKind,
};

/// Most nodes that a test shows.
const MAX_SHOWN: usize = 1000;

/// The rules as they hold, and what they were made of.
#[derive(Debug, Default)]
pub(crate) struct CurrentPreferences {
    own: OwnRules,
    /// The text of the books that `made` is of; none before the first use.
    text: Option<Option<Arc<str>>>,
    made: Arc<Preferences>,
    problem: Option<String>,
    /// How what was begun with each peer has ended.
    pub(crate) history: Arc<History>,
}

impl CurrentPreferences {
    /// With rules of one's own.
    pub(crate) fn with(own: OwnRules) -> Self {
        Self { own, ..Self::default() }
    }

    /// What the books say.
    pub(crate) fn of(&mut self, books: &Books) -> Arc<Preferences> {
        let text = books.preferences();
        let is_current = match (&self.text, text) {
            (Some(Some(made_of)), Some(text)) => Arc::ptr_eq(made_of, text),
            (Some(None), None) => true,
            _ => false,
        };
        if !is_current {
            let parsed = Preferences::parse(text.map_or("", |text| text), &self.own);
            self.problem = parsed.as_ref().err().map(ToString::to_string);
            let made = parsed.or_else(|error| {
                // It was checked when it was set: another program wrote it, or this one has other rules of its own.
                tracing::error!(%error, "the preferences in the books cannot be used: the defaults hold");
                Preferences::parse("", &self.own)
            });
            self.made = Arc::new(made.unwrap_or_default());
            self.text = Some(text.cloned());
        }
        Arc::clone(&self.made)
    }

    /// What was used last.
    pub(crate) fn last(&self) -> &Preferences {
        &self.made
    }

    /// Takes note of what the books have taken.
    pub(crate) fn note(&mut self, entry: &Entry, books: &Books) {
        let is_ending = matches!(
            entry.event,
            Event::AttemptObserved { .. }
                | Event::AttemptLost { .. }
                | Event::AllocationEnded { .. }
                | Event::LockEnded { .. }
        );
        if is_ending {
            Arc::make_mut(&mut self.history).note(&entry.event, books, entry.at);
        }
    }

    /// Begins again with what the books hold.
    pub(crate) fn take_books(&mut self, books: &Books) {
        self.history = Arc::new(History::of_books(books));
    }
}

impl Node {
    /// With rules of one's own.
    #[must_use]
    pub fn with_rules(mut self, rules: OwnRules) -> Self {
        self.preferences = CurrentPreferences::with(rules);
        self
    }

    /// By what this node chooses now.
    pub(crate) fn preferences(&mut self) -> Arc<Preferences> {
        self.preferences.of(&self.books)
    }

    /// Judges every node that is known to offer something, this one among them, as the next round would.
    fn test_preferences(&mut self, requirement: &Requirement, request: &Request<'_>) -> PreferencesTest {
        let preferences = self.preferences();
        let (me, now) = (self.me(), self.now());
        let history = Arc::clone(&self.preferences.history);
        let known = self.adverts.current(now).filter(|(did, note)| {
            let status = self.statuses.get(*did, now).map(|status| status.signed.value());
            *did != me && self.may_provide(*did) && discovery::is_askable(note.signed.value(), status)
        });
        let mut candidates: Vec<Candidate<'_>> = known
            .map(|(did, note)| {
                let advert = note.signed.value();
                let price = price_per_hour(&advert.prices, requirement);
                Candidate::of_advert(did, advert, price, history.provider(did, now))
            })
            .collect();
        let promisable = self.promisable();
        if let Some(capability) = self.books.registered().filter(|_| self.withdrawal.is_none()) {
            let price = own_price(&self.books, &preferences, requirement);
            let history = history.provider(me, now);
            let fit = matching::fit(&self.books, requirement);
            let load = matching::load(&self.books);
            let own = Candidate::of_capability(me, capability, &promisable, price, load, history);
            candidates.push(Candidate { fit, ..own });
        }
        // Chance is drawn for each request: here for one that nobody says.
        let id = BidRequestId::from_bytes([0; 16]);
        let (ranked, refused) = preferences.requester.rank(id, request, &candidates);
        let ranks = ranked.into_iter().zip(1..).map(|(index, rank)| (index, Some(rank)));
        // What does not last may be otherwise by the time that they bid.
        let is_asked = |index: usize| preferences.requester.judge_advert(request, &candidates[index]).is_ok();
        let (asked, refused): (Vec<_>, Vec<_>) =
            refused.into_iter().map(|(index, _)| (index, None)).partition(|(index, _)| is_asked(*index));
        let judged = ranks.chain(asked).chain(refused).take(MAX_SHOWN).map(|(index, rank)| {
            let candidate = &candidates[index];
            let verdicts = preferences.requester.explain(request, candidate);
            JudgedCandidate {
                did: candidate.did,
                is_me: candidate.did == me,
                rank,
                is_asked: is_asked(index),
                price: candidate.price,
                verdicts: verdicts.into_iter().map(|(rule, verdict)| rule_verdict(rule, verdict)).collect(),
            }
        });
        let judged = judged.collect();
        PreferencesTest {
            order: preferences.requester.order().into_iter().map(str::to_owned).collect(),
            candidates: judged,
        }
    }

    fn preferences_view(&mut self) -> PreferencesView {
        self.preferences();
        PreferencesView {
            text: self.books.preferences().map_or_else(String::new, ToString::to_string),
            problem: self.preferences.problem.clone(),
        }
    }
}

/// What a pod would cost on this node now.
pub(crate) fn own_price(books: &Books, preferences: &Preferences, requirement: &Requirement) -> Price {
    books.registered().map_or(Price(0), |capability| {
        let loads = Loads::of(&capability.resources, books.available());
        pricing::price_at(&capability.prices, &preferences.surcharge, &loads, requirement)
    })
}

fn rule_verdict(rule: &dyn Rule, verdict: Verdict) -> RuleVerdict {
    let (verdict, score, reason) = match verdict {
        Verdict::Accept => (VerdictKind::Accept, None, None),
        Verdict::Reject(rejection) => (VerdictKind::Reject, None, Some(rejection.reason)),
        Verdict::Score(score) => (VerdictKind::Score, Some(score), None),
    };
    let score_text = score.map(|score| rule.score_text(score));
    RuleVerdict { rule: rule.name().to_owned(), verdict, score, score_text, reason }
}

impl Handler<GetPreferences> for Node {
    fn handle(&mut self, _: GetPreferences, ctx: &mut Context<'_, Self>) -> Answer<PreferencesView> {
        let (responder, answer) = Answer::later();
        // Memory may be ahead of the disk: it is told when all of it is written.
        self.record(ctx, Vec::new(), move |node, _, _| responder.reply(node.preferences_view()));
        answer
    }
}

impl Handler<SetPreferences> for Node {
    fn handle(
        &mut self,
        set: SetPreferences,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<SetPreferences as Message>::Reply> {
        if let Err(error) = self.check_serving() {
            return Err(error).into();
        }
        if let Err(error) = Preferences::parse(&set.text, &self.preferences.own) {
            return Err(CommandError::InvalidPreferences(error.to_string())).into();
        }
        let before = self.books.preferences().map_or("", |text| text);
        let changes = preferences::changes(before, &set.text);
        let (responder, answer) = Answer::later();
        self.record(ctx, vec![Event::PreferencesSet { text: set.text }], move |node, outcome, ctx| {
            if outcome.is_ok() {
                tracing::info!(changes = changes.len(), "preferences set");
                // Its minimum price is a part of the offer.
                node.advertise(ctx);
            }
            responder.reply(outcome.map(|()| changes).map_err(CommandError::from));
        });
        answer
    }
}

impl Handler<TestPreferences> for Node {
    fn handle(
        &mut self,
        test: TestPreferences,
        _: &mut Context<'_, Self>,
    ) -> Answer<<TestPreferences as Message>::Reply> {
        let (requirement, run_time, max_price) = match test.subject {
            Subject::Job { id } => match listings::job(&self.books, &id) {
                Ok(row) => {
                    let pod = &row.job.pods[0];
                    (pod.requirement.clone(), pod.run_time(), row.job.max_price)
                }
                Err(error) => return Err(error).into(),
            },
            Subject::Pod { requirement, run_time, max_price } => match requirement.check() {
                Ok(()) => (requirement, run_time, max_price),
                Err(problem) => return Err(CommandError::InvalidPreferences(problem)).into(),
            },
        };
        let request = Request { requirement: &requirement, run_time, max_price };
        Ok(self.test_preferences(&requirement, &request)).into()
    }
}

/// Why a node is not to be asked, in words.
pub(crate) fn rejected_because(
    did: Did,
    refusal: &crate::orchestrator::comparator::Refusal,
) -> (Did, String) {
    (did, format!("by the preferences of this node: {refusal}"))
}
