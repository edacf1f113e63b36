//! Prints what lists show: peers, bid requests, bids, allocations, contracts and the proof of one.

use dms_messages::{ContentId, Did, GpuId, Millis, Resources, Timestamp};
use dms_storage::books::AttemptState;

use super::{age, attempt_state, cell, count, escaped, fields, short_id, span, table, yes};
use crate::allocation::route::CheckedAllocation;
use crate::listings::bids::{BidList, BidOutcome, BidRequestView, BidView, DeclineView};
use crate::listings::contracts::{AllocationView, ContractDocuments, ContractView};
use crate::listings::{Direction, Role};
use crate::peers::PeerView;
use crate::proof::Proof;
use crate::time_text::to_the_second;
use crate::trust::conduct::Standing;

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

fn or_nothing(text: Option<String>) -> String {
    text.unwrap_or_else(|| NOTHING.to_owned())
}

/// The part of a CID that tables show and commands accept: all contracts share the first eight characters.
pub(in crate::cli) fn short_cid(cid: &ContentId) -> String {
    cid.to_string().chars().take(18).collect()
}

/// An instant with its age, as people and other programs read it.
fn instant(at: Timestamp, now: Timestamp) -> String {
    match now >= at {
        true => format!("{} ({} ago)", to_the_second(at), age(at, now)),
        false => format!("{} (in {})", to_the_second(at), age(now, at)),
    }
}

pub(super) fn price(price: dms_messages::Price) -> String {
    if price.0 == 0 { "free".to_owned() } else { price.to_string() }
}

/// `dms peers`.
pub(in crate::cli) fn peers(peers: &[PeerView]) -> String {
    if peers.is_empty() {
        return "no peers yet: nobody is connected, and nobody was heard of (see `dms run --bootstrap`)\n"
            .to_owned();
    }
    let row = |peer: &PeerView| {
        let link = match (peer.is_connected, &peer.transport) {
            (true, Some(transport)) => escaped(transport),
            (true, None) => "connected".to_owned(),
            (false, _) => "not connected".to_owned(),
        };
        let link = match peer.standing {
            Some(Standing { banned_for: Some(left), offence }) => {
                format!("banned for {} ({offence})", span(left.duration()))
            }
            Some(Standing { banned_for: None, offence }) => format!("{link}, slowed ({offence})"),
            None => link,
        };
        let advert = peer.advert.as_ref();
        let status = peer.status.as_ref().map(|report| &report.status);
        let said = peer.status.as_ref().map(|report| report.age).or(advert.map(|advert| advert.age));
        let free = peer.free.map(|free| {
            let gpus = (0..free.gpus).map(GpuId).collect();
            let resources = Resources {
                cpu: free.cpu,
                memory: free.memory,
                disk: free.disk,
                gpus,
                ..Resources::default()
            };
            resources.to_string()
        });
        vec![
            peer.did.short(),
            link,
            or_nothing(peer.round_trip_us.map(|trip| format!("{}.{} ms", trip / 1000, trip % 1000 / 100))),
            yes(peer.is_trusted).to_owned(),
            or_nothing(status.map(|status| format!("{}, {}", status.role, status.mode))),
            or_nothing(status.map(|status| status.allocations.to_string())),
            or_nothing(free),
            or_nothing(said.map(|age| span(age.duration()))),
            or_nothing(advert.map(|advert| price(advert.prices.core_hour))),
            or_nothing(peer.agent.as_deref().map(cell)),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    let head =
        ["NODE", "LINK", "TRIP", "TRUSTED", "STATUS", "RUNS", "FREE", "SAID AGO", "CORE HOUR", "PROGRAM"];
    table(&head, &rows)
}

/// `dms bid-request ls`.
pub(in crate::cli) fn bid_requests(
    requests: &[BidRequestView],
    now: Timestamp,
    empty: impl FnOnce() -> String,
) -> String {
    if requests.is_empty() {
        return empty();
    }
    let row = |request: &BidRequestView| {
        let (cpu, memory, disk) =
            (request.requirement.cpu, request.requirement.memory, request.requirement.disk);
        let gpus = (0..).map(GpuId).take(request.requirement.gpus.len()).collect();
        // Which ports they will be is not known yet: as many as are asked for.
        let ports = (1..=request.requirement.ports).collect();
        let need = Resources { cpu, memory, disk, gpus, ports, ..Resources::default() };
        let answer = match (&request.declined, request.direction, request.winner) {
            (Some(reason), ..) => format!("declined: {reason}"),
            (None, Direction::Received, _) => "bid".to_owned(),
            (None, Direction::Sent, Some(winner)) => {
                format!("{}, won by {}", count(request.bid_count, "bid"), winner.short())
            }
            (None, Direction::Sent, None) => {
                format!("{} of {} wanted", count(request.bid_count, "bid"), request.wanted)
            }
        };
        vec![
            short_id(&request.id),
            request.direction.to_string(),
            short_id(&request.job),
            request.requester.map_or_else(|| "this node".to_owned(), |did| did.short()),
            need.to_string(),
            or_nothing(request.max_price.map(price)),
            age(request.at, now),
            cell(&answer),
        ]
    };
    let rows: Vec<_> = requests.iter().map(row).collect();
    table(&["ID", "WAY", "JOB", "BY", "NEEDS", "AT MOST", "AGE", "ANSWER"], &rows)
}

/// `dms bid ls`.
pub(in crate::cli) fn bids(list: &BidList, now: Timestamp, empty: impl FnOnce() -> String) -> String {
    let mut text = if list.bids.is_empty() {
        empty()
    } else {
        let rows: Vec<_> = list.bids.iter().map(|bid| bid_row(bid, now)).collect();
        table(&["ID", "WAY", "REQUEST", "JOB", "PEER", "PER HOUR", "AGE", "LEASE", "OUTCOME"], &rows)
    };
    if !list.declines.is_empty() {
        let row = |decline: &DeclineView| {
            vec![
                decline.provider.map_or_else(|| "this node".to_owned(), |did| did.short()),
                cell(&decline.code),
                // The reason is what the list is asked for: it is not cut to the width of a cell.
                format!("{}{}", escaped(&decline.text), if decline.is_later { " (may change)" } else { "" }),
            ]
        };
        let rows: Vec<_> = list.declines.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["DECLINED BY", "CODE", "REASON"], &rows));
    }
    text
}

fn bid_row(bid: &BidView, now: Timestamp) -> Vec<String> {
    let outcome = match bid.outcome {
        BidOutcome::Held => "waits to be taken".to_owned(),
        BidOutcome::Taken { allocation: Some(allocation) } => format!("taken: {}", short_id(&allocation)),
        BidOutcome::Taken { allocation: None } => "taken".to_owned(),
        BidOutcome::Released => "let go".to_owned(),
        BidOutcome::Expired => "lease ended".to_owned(),
        BidOutcome::Withdrawn => "taken back".to_owned(),
        BidOutcome::Waiting => "in the auction".to_owned(),
        BidOutcome::Chosen { attempt } => format!("won (try {attempt})"),
        BidOutcome::NotChosen => "not chosen".to_owned(),
    };
    vec![
        short_id(&bid.id),
        bid.direction.to_string(),
        short_id(&bid.request),
        or_nothing(bid.job.as_ref().map(short_id)),
        bid.peer.short(),
        price(bid.price),
        age(bid.at, now),
        or_nothing(bid.lease_left.map(|left| span(left.duration()))),
        outcome,
    ]
}

fn peer_of(role: Role, requester: Did, provider: Did) -> String {
    match role {
        Role::Requester => provider.short(),
        Role::Provider => requester.short(),
        Role::Both => "this node".to_owned(),
    }
}

/// `dms alloc ls`.
pub(in crate::cli) fn allocations(
    list: &[AllocationView],
    now: Timestamp,
    empty: impl FnOnce() -> String,
) -> String {
    if list.is_empty() {
        return empty();
    }
    let row = |view: &AllocationView| {
        vec![
            short_id(&view.id),
            view.role.to_string(),
            short_id(&view.attempt.job),
            task_of(view),
            view.attempt.number.to_string(),
            peer_of(view.role, view.requester, view.provider),
            or_nothing(view.resources.as_ref().map(ToString::to_string)),
            age(view.began, now),
            or_nothing(view.result.as_ref().map(|result| result.wall.to_string())),
            escaped(&attempt_state(&view.state)),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["ID", "ROLE", "JOB", "TASK", "TRY", "PEER", "GRANTED", "AGE", "RAN", "STATE"], &rows)
}

/// Which pod of its job, and which task of that, an allocation is: `0/left`, or `0/1` where the name is not known.
fn task_of(view: &AllocationView) -> String {
    let task = view.task_name.as_deref().map_or_else(|| view.task.to_string(), cell);
    format!("{}/{task}", view.attempt.pod)
}

/// `dms alloc show`.
pub(in crate::cli) fn allocation(view: &AllocationView, now: Timestamp) -> String {
    let mut lines = vec![
        ("id", view.id.to_string()),
        ("state", escaped(&attempt_state(&view.state))),
        ("job", format!("{} (try {})", view.attempt.job, view.attempt.number)),
        ("pod", view.attempt.pod.to_string()),
        ("task", view.task_name.as_deref().map_or_else(|| view.task.to_string(), escaped)),
        ("requester", party(view.requester, matches!(view.role, Role::Requester | Role::Both))),
        ("provider", party(view.provider, matches!(view.role, Role::Provider | Role::Both))),
        ("contract", view.contract.to_string()),
    ];
    if let Some(bid) = view.bid {
        lines.push(("bid", bid.to_string()));
    }
    if let Some(resources) = &view.resources {
        lines.push(("granted", resources.to_string()));
    }
    if let Some(per_hour) = view.price {
        lines.push(("per hour", price(per_hour)));
    }
    if let Some(limit) = view.run_time {
        lines.push(("time limit", limit.to_string()));
    }
    lines.push(("began", instant(view.began, now)));
    lines.push(("changed", instant(view.moved, now)));
    if let Some(usage) = &view.usage {
        let share =
            format!("{} now, {} in all", super::watch::cores(usage.cpu), span(usage.cpu_time.duration()));
        lines.push(("runs for", span(usage.run_time.duration())));
        lines.push(("processor", share));
        lines.push(("memory", format!("{} now, {} at most", usage.memory, usage.peak_memory)));
        lines.push(("disk", usage.disk.to_string()));
    }
    if let Some(result) = &view.result {
        lines.push(("ran", result.wall.to_string()));
        lines.push(("peak memory", result.peak_memory.to_string()));
        lines.push(("stdout", result.stdout.to_string()));
        lines.push(("stderr", result.stderr.to_string()));
        lines.extend(result.output.map(|output| ("output", output.to_string())));
        if result.output_dropped > 0 {
            lines.push(("dropped", format!("{} bytes of output over the limit", result.output_dropped)));
        }
    }
    let is_over = matches!(&view.state, AttemptState::Observed { state } if state.is_terminal());
    if let Some(is_acknowledged) = view.is_acknowledged.filter(|_| is_over) {
        let text = if is_acknowledged { "the requester has it" } else { "the requester has not come for it" };
        lines.push(("result", text.to_owned()));
    }
    fields(&lines)
}

/// `dms alloc status`.
pub(in crate::cli) fn checked_allocation(checked: &CheckedAllocation, now: Timestamp) -> String {
    let CheckedAllocation { provider, role, is_asked, report } = checked;
    let mut lines = vec![
        ("id", report.allocation.to_string()),
        ("state", escaped(&report.state.to_string())),
        ("since", instant(report.since, now)),
        ("job", format!("{} (try {})", report.attempt.job, report.attempt.number)),
        ("provider", party(*provider, matches!(role, Some(Role::Provider | Role::Both)))),
    ];
    if let Some(usage) = &report.usage {
        lines.push(("ran", usage.ran.to_string()));
        lines.push(("output", format!("{} + {} bytes (stdout + stderr)", usage.stdout, usage.stderr)));
        let (messages, waiting) = (usage.messages, usage.waiting_messages);
        lines.push(("messages", format!("{messages} ({waiting} not read yet)")));
    }
    if let Some(result) = &report.result {
        lines.push(("ran", result.wall.to_string()));
        lines.push(("peak memory", result.peak_memory.to_string()));
    }
    let source = if *is_asked { "its provider, just now" } else { "this node's own books" };
    lines.push(("says", source.to_owned()));
    fields(&lines)
}

fn party(did: Did, is_me: bool) -> String {
    format!("{did}{}", if is_me { " (this node)" } else { "" })
}

/// `dms contract ls`.
pub(in crate::cli) fn contracts(
    list: &[ContractView],
    now: Timestamp,
    empty: impl FnOnce() -> String,
) -> String {
    if list.is_empty() {
        return empty();
    }
    let row = |view: &ContractView| {
        vec![
            short_cid(&view.cid),
            view.role.to_string(),
            short_id(&view.attempt.job),
            view.attempt.number.to_string(),
            peer_of(view.role, view.requester, view.provider),
            price(view.price),
            age(view.signed_at, now),
            if view.countersigned_at.is_some() { "both".to_owned() } else { "requester only".to_owned() },
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["CID", "ROLE", "JOB", "TRY", "PEER", "PER HOUR", "AGE", "SIGNED BY"], &rows)
}

/// `dms contract show`.
pub(in crate::cli) fn contract(contract: &ContractDocuments, now: Timestamp) -> String {
    let view = &contract.view;
    let mut lines = vec![
        ("CID", view.cid.to_string()),
        ("requester", party(view.requester, matches!(view.role, Role::Requester | Role::Both))),
        ("  signed", instant(view.signed_at, now)),
        ("provider", party(view.provider, matches!(view.role, Role::Provider | Role::Both))),
        (
            "  signed",
            view.countersigned_at
                .map_or_else(|| "not, as far as this node knows".to_owned(), |at| instant(at, now)),
        ),
    ];
    lines.extend(terms(&contract.terms));
    lines.push(("bid", view.bid.to_string()));
    lines.push(("request", view.request.to_string()));
    if let Some(allocation) = view.allocation {
        lines.push(("allocation", allocation.to_string()));
    }
    lines.push(("expires", instant(view.expires_at, now)));
    fields(&lines)
}

/// What was agreed on.
fn terms(terms: &dms_messages::Contract) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("job", format!("{} (pod {}, try {})", terms.attempt.job, terms.attempt.pod, terms.attempt.number)),
        ("grants", terms.resources.to_string()),
        ("per hour", price(terms.price)),
        ("time limit", terms.pod.run_time().to_string()),
        ("orphaned after", terms.orphan_after.to_string()),
    ];
    for task in &terms.pod.tasks {
        lines.push(("program", task.module.to_string()));
        if !task.args.is_empty() {
            lines.push(("arguments", cell(&task.args.join(" "))));
        }
        lines.extend(task.input.map(|input| ("input", input.to_string())));
    }
    lines
}

/// `dms contract verify`: what a file proves, and what it does not.
pub(in crate::cli) fn proof(proof: &Proof, now: Timestamp) -> String {
    let mut lines = vec![
        ("contract", proof.cid.to_string()),
        ("mesh", escaped(&proof.network)),
        ("requester", proof.terms.requester.to_string()),
        ("  signed", instant(proof.requester.at, now)),
        ("provider", proof.terms.provider.to_string()),
        (
            "  signed",
            proof.provider.as_ref().map_or_else(|| "not in this file".to_owned(), |it| instant(it.at, now)),
        ),
    ];
    lines.extend(terms(&proof.terms));
    lines.push(("bid", proof.terms.bid.to_string()));
    lines.push(("request", proof.terms.request.to_string()));
    if let Some(allocation) = proof.allocation {
        lines.push(("allocation", allocation.to_string()));
    }
    let expires = match proof.expired_for {
        Some(Millis(_)) => format!(
            "{}: expired, it is history; its signatures still hold",
            instant(proof.requester.expires, now)
        ),
        None => instant(proof.requester.expires, now),
    };
    lines.push(("expires", expires));
    let mut text = fields(&lines);
    text.push_str(match proof.is_agreed() {
        true => {
            "
checked      both Ed25519 signatures, over the exact bytes in the file, with the keys in the two DIDs;
             the signers are the two parties that the terms name; the provider signed this very contract
not checked  who is behind the two DIDs; the clocks of the signers (each wrote its own time, and a time
             that was set back cannot be seen); whether the job ran, ended well or was paid
"
        }
        false => {
            "
checked      the requester's Ed25519 signature, over the exact bytes in the file, with the key in its DID
not checked  anything of the provider: its signature is not in this file
"
        }
    });
    if proof.is_agreed() {
        text.push_str("\nthe contract holds: both parties have signed it, and nothing was changed since\n");
    }
    text
}

/// What an offboarding waits for.
pub(in crate::cli) fn waiting_for(running_count: usize, lock_count: usize) -> String {
    match (running_count, lock_count) {
        (0, 0) => "no new bids; waiting for the books".to_owned(),
        (running, 0) => format!("no new bids; waiting for {}", count(running, "allocation")),
        (0, locks) => format!("no new bids; waiting for {}", count(locks, "lock")),
        (running, locks) => {
            format!("no new bids; waiting for {} and {}", count(running, "allocation"), count(locks, "lock"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_said_in_utc_with_their_distance() {
        let table = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (951_868_799_999, "2000-02-29 23:59:59 UTC"),
            (1_767_225_599_000, "2025-12-31 23:59:59 UTC"),
            (1_767_225_600_000, "2026-01-01 00:00:00 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ];
        for (at, text) in table {
            assert_eq!(to_the_second(Timestamp(at)), text);
        }
        let (then, now) = (Timestamp(0), Timestamp(180_000));
        assert_eq!(instant(then, now), "1970-01-01 00:00:00 UTC (3 min ago)");
        assert_eq!(instant(now, then), "1970-01-01 00:03:00 UTC (in 3 min)");
        // The end of time is far, but a number.
        assert!(to_the_second(Timestamp(u64::MAX)).ends_with("UTC"));
    }

    #[test]
    fn nothing_is_said_in_words_and_reasons_are_whole_and_harmless() {
        let empty = || "no bids yet\n".to_owned();
        let mut list = BidList::default();
        assert_eq!(bids(&list, Timestamp(0), empty), "no bids yet\n");
        let text = format!("{}\u{1b}[2J", "long ".repeat(30));
        list.declines = vec![DeclineView { provider: None, code: "label".to_owned(), text, is_later: true }];
        let shown = bids(&list, Timestamp(0), empty);
        assert!(shown.contains("this node    label  long long"), "{shown}");
        assert!(shown.contains("\\u{1b}[2J (may change)") && !shown.contains('\u{1b}'), "{shown}");
        assert!(peers(&[]).contains("--bootstrap"));
    }

    #[test]
    fn what_is_waited_for_is_counted() {
        assert_eq!(waiting_for(2, 0), "no new bids; waiting for 2 allocations");
        assert_eq!(waiting_for(1, 1), "no new bids; waiting for 1 allocation and 1 lock");
    }
}
