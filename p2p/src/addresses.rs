//! The address book: where peers can be dialled, as far as we know, and which claims are worth keeping.
//!
//! `dial` reads it; identify, the application and successful dials fill it. Everything in it except a
//! proven address is a stranger's claim: bounded per peer and in peers, of a form that can be dialled,
//! and never naming another peer's key. A dial proves the key, so a wrong claim costs one dial.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Most claimed addresses of one peer: as many as one dial tries at once.
const MAX_PER_PEER: usize = 8;
/// Most peers: far more than can be connected, little enough (about 1 MiB) to keep always.
const MAX_PEERS: usize = 1024;
/// Longest address text that is looked at; a usable one has less than 120 characters.
const MAX_TEXT_LENGTH: usize = 256;

/// Where peers can be dialled.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    entries: BTreeMap<PeerId, Entry>,
    /// Peers in the order in which they were last written, for eviction.
    by_age: BTreeMap<u64, PeerId>,
    next_age: u64,
}

#[derive(Debug, Default)]
struct Entry {
    age: u64,
    /// The address of the last dial that succeeded. No claim pushes it out.
    proven: Option<Multiaddr>,
    /// Claims, newest first.
    claimed: VecDeque<Multiaddr>,
}

impl AddressBook {
    /// Remembers addresses given as text for `peer`; those that cannot be dialled are ignored. Of too
    /// many the first are kept, because peers tell their most useful ones first.
    pub(crate) fn add_texts(&mut self, peer: PeerId, texts: &[String]) {
        for address in texts.iter().rev().filter_map(|text| usable(peer, text)) {
            self.keep(peer, address);
        }
    }

    /// Remembers what a peer said about itself over a connection of reach `nearest` (see
    /// [`reach_of_remote`]). An address of a narrower reach (a loopback address told from another
    /// machine) is ignored: it would make us dial our own host or network.
    pub(crate) fn add_heard(&mut self, peer: PeerId, addresses: &[Multiaddr], nearest: Reach) {
        for address in by_use(addresses.to_vec(), None).iter().rev() {
            if reach(address).is_some_and(|reach| reach >= nearest) {
                self.add(peer, address);
            }
        }
    }

    /// Remembers that `peer` answered at `address`.
    pub(crate) fn confirm(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(address) = dialable(peer, address) else { return };
        let entry = self.touch(peer);
        entry.claimed.retain(|claimed| *claimed != address);
        if let Some(before) = entry.proven.replace(address.clone()).filter(|before| *before != address) {
            entry.claimed.push_front(before);
            entry.claimed.truncate(MAX_PER_PEER);
        }
    }

    /// Forgets that `peer` might be at `address`: another key answered there.
    pub(crate) fn remove(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(entry) = self.entries.get_mut(peer) else { return };
        let address = without_peer(address);
        entry.claimed.retain(|claimed| *claimed != address);
        if entry.proven.as_ref() == Some(&address) {
            entry.proven = None;
        }
        if entry.proven.is_none() && entry.claimed.is_empty() {
            let age = entry.age;
            self.entries.remove(peer);
            self.by_age.remove(&age);
        }
    }

    /// Forgets everything about `peer`.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.remove(peer) {
            self.by_age.remove(&entry.age);
        }
    }

    /// Where `peer` might be, the proven address first.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let entry = self.entries.get(peer);
        entry.into_iter().flat_map(|entry| entry.proven.iter().chain(&entry.claimed)).cloned().collect()
    }

    /// Remembers a claim that `peer` might be at `address`, if that can be dialled.
    pub(crate) fn add(&mut self, peer: PeerId, address: &Multiaddr) {
        if let Some(address) = dialable(peer, address) {
            self.keep(peer, address);
        }
    }

    fn keep(&mut self, peer: PeerId, address: Multiaddr) {
        let entry = self.touch(peer);
        if entry.proven.as_ref() != Some(&address) && !entry.claimed.contains(&address) {
            entry.claimed.push_front(address);
            entry.claimed.truncate(MAX_PER_PEER);
        }
    }

    /// The entry of `peer`, made the youngest; the oldest goes if it is one too many.
    fn touch(&mut self, peer: PeerId) -> &mut Entry {
        let age = self.next_age;
        self.next_age += 1;
        if let Some(entry) = self.entries.get(&peer) {
            self.by_age.remove(&entry.age);
        } else if self.entries.len() >= MAX_PEERS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.by_age.insert(age, peer);
        let entry = self.entries.entry(peer).or_default();
        entry.age = age;
        entry
    }
}

/// How far an address can be reached from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Only from the host itself.
    Host,
    /// From the same private network.
    Network,
    /// From everywhere.
    World,
}

fn parse(text: &str) -> Option<Multiaddr> {
    if text.len() > MAX_TEXT_LENGTH { None } else { text.parse().ok() }
}

/// What is kept of the text that says where `peer` is, if it can be dialled.
pub(crate) fn usable(peer: PeerId, text: &str) -> Option<Multiaddr> {
    dialable(peer, &parse(text)?)
}

/// The address without its `/p2p/…`.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// True if `address` is one of QUIC.
pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

/// True if `address` leads to this host itself.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    reach(address) == Some(Reach::Host)
}

/// Which of `addresses` one dial tries; what it leaves out stays for the next one.
///
/// The swarm tries QUIC before TCP among them. Between two peers on one host that order is turned round,
/// by leaving QUIC over loopback out while there is TCP: there TCP is faster, and only it says at once
/// that the process at the other end is gone.
pub(crate) fn first_choice(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let has_local_tcp = addresses.iter().any(|address| is_loopback(address) && !is_quic(address));
    let is_chosen = |address: &Multiaddr| !(has_local_tcp && is_loopback(address) && is_quic(address));
    addresses.into_iter().filter(is_chosen).collect()
}

/// The address without its `/p2p/…`, if it can be dialled by the transports that we have and does not
/// name another peer.
pub(crate) fn dialable(peer: PeerId, address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let port = match parts.next()? {
        Protocol::Tcp(port) => port,
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => port,
        _ => return None,
    };
    let names_us = match parts.next() {
        None => true,
        Some(Protocol::P2p(named)) => named == peer && parts.next().is_none(),
        Some(_) => false,
    };
    let is_place =
        !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST) && port != 0;
    (names_us && is_place).then(|| without_peer(address))
}

/// How far `address` can be reached from, if it begins with one of IP.
pub(crate) fn reach(address: &Multiaddr) -> Option<Reach> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(reach_of_ip4(ip)),
        Protocol::Ip6(ip) => Some(reach_of_ip6(ip)),
        _ => None,
    }
}

/// How near the peer at the other end of a connection is. A name hides where it leads, so it counts as
/// the world, except for the one that always leads to this host (RFC 6761).
pub(crate) fn reach_of_remote(remote: &Multiaddr) -> Reach {
    let is_localhost = matches!(
        remote.iter().next(),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) if name == "localhost"
    );
    if is_localhost { Reach::Host } else { reach(remote).unwrap_or(Reach::World) }
}

/// The same when the peer has said at which address it sees us. If we dialled it by a name and it sees
/// us inside a private network, then it is in that network too. It is not believed about our own host.
pub(crate) fn reach_as_seen(remote: &Multiaddr, observed: &Multiaddr) -> Reach {
    let is_inside = ip(remote).is_none() && reach(observed).is_some_and(|reach| reach < Reach::World);
    let reach = reach_of_remote(remote);
    if is_inside { reach.min(Reach::Network) } else { reach }
}

/// The addresses in the order of their use to others: those at the IP of `remote` (it works: we are
/// connected to it), then by reach, the widest first. Those of one IP stay together, so that a list
/// that is cut has both transports of what is left.
pub(crate) fn by_use(mut addresses: Vec<Multiaddr>, remote: Option<&Multiaddr>) -> Vec<Multiaddr> {
    let proven = remote.and_then(ip);
    addresses.sort_by_cached_key(|address| {
        let ip = ip(address);
        let is_proven = proven.is_some() && ip == proven;
        (!is_proven, Reverse(reach(address)), ip, is_quic(address), address.to_string())
    });
    addresses
}

/// Drops the addresses of this host itself if there are others, unless we listen on loopback: a peer of
/// another machine is never there.
pub(crate) fn elsewhere(mut addresses: Vec<Multiaddr>, listens_on_host: bool) -> Vec<Multiaddr> {
    if !listens_on_host && addresses.iter().any(|address| !is_loopback(address)) {
        addresses.retain(|address| !is_loopback(address));
    }
    addresses
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

fn reach_of_ip4(ip: Ipv4Addr) -> Reach {
    // 100.64.0.0/10 is the shared space behind a carrier's address translation.
    let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0b1100_0000 == 64;
    if ip.is_loopback() {
        Reach::Host
    } else if ip.is_private() || ip.is_link_local() || is_shared {
        Reach::Network
    } else {
        Reach::World
    }
}

fn reach_of_ip6(ip: Ipv6Addr) -> Reach {
    match ip.to_ipv4_mapped() {
        Some(ip) => reach_of_ip4(ip),
        None if ip.is_loopback() => Reach::Host,
        None if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Network,
        None => Reach::World,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn texts(book: &AddressBook, peer: PeerId) -> Vec<String> {
        book.addresses(&peer).iter().map(Multiaddr::to_string).collect()
    }

    #[test]
    fn only_addresses_that_can_be_dialled_and_name_nobody_else_are_kept() {
        let (peer, other) = (test_peer(1), test_peer(2));
        let table = [
            ("/ip4/10.0.0.1/tcp/4001".to_owned(), Some("/ip4/10.0.0.1/tcp/4001")),
            (format!("/ip4/10.0.0.1/tcp/4001/p2p/{peer}"), Some("/ip4/10.0.0.1/tcp/4001")),
            ("/ip6/::1/tcp/4001".to_owned(), Some("/ip6/::1/tcp/4001")),
            (format!("/ip4/10.0.0.1/tcp/4001/p2p/{other}"), None),
            (format!("/ip4/10.0.0.1/tcp/4001/p2p/{peer}/p2p/{other}"), None),
            (format!("/ip4/10.0.0.1/tcp/4001/p2p/{peer}/p2p-circuit"), None),
            ("/ip4/0.0.0.0/tcp/4001".to_owned(), None),
            ("/ip4/224.0.0.1/tcp/4001".to_owned(), None),
            ("/ip4/255.255.255.255/tcp/4001".to_owned(), None),
            ("/ip4/10.0.0.1/tcp/0".to_owned(), None),
            ("/ip4/10.0.0.1/udp/4001".to_owned(), None),
            ("/ip4/10.0.0.1/udp/4001/quic-v1".to_owned(), Some("/ip4/10.0.0.1/udp/4001/quic-v1")),
            (format!("/ip6/::1/udp/4001/quic-v1/p2p/{peer}"), Some("/ip6/::1/udp/4001/quic-v1")),
            (format!("/ip4/10.0.0.1/udp/4001/quic-v1/p2p/{other}"), None),
            ("/ip4/10.0.0.1/udp/0/quic-v1".to_owned(), None),
            ("/ip4/10.0.0.1/udp/4001/quic".to_owned(), None),
            ("/ip4/10.0.0.1/udp/4001/quic-v1/webtransport".to_owned(), None),
            ("/ip4/10.0.0.1/tcp/4001/ws".to_owned(), None),
            ("/dns4/example.org/tcp/4001".to_owned(), None),
            ("/memory/1".to_owned(), None),
            ("10.0.0.1:4001".to_owned(), None),
            (String::new(), None),
            ("/".repeat(10_000), None),
        ];
        for (text, kept) in table {
            let mut book = AddressBook::default();
            book.add_texts(peer, std::slice::from_ref(&text));
            assert_eq!(texts(&book, peer), kept.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn quic_over_loopback_waits_for_tcp_over_loopback_and_for_nothing_else() {
        let [tcp, quic] = ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"];
        let [far_tcp, far_quic] = ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1"];
        let table: &[(&[&str], &[&str])] = &[
            (&[quic, tcp], &[tcp]),
            (&[quic], &[quic]),
            (&[far_quic, far_tcp], &[far_quic, far_tcp]),
            (&[quic, far_tcp], &[quic, far_tcp]),
            (&[quic, far_quic, tcp], &[far_quic, tcp]),
            (&[], &[]),
        ];
        for (known, tried) in table {
            let known = known.iter().map(|text| address(text)).collect();
            let chosen: Vec<String> = first_choice(known).iter().map(Multiaddr::to_string).collect();
            assert_eq!(&chosen, tried);
        }
    }

    #[test]
    fn claims_are_bounded_per_peer_and_cannot_push_out_a_proven_address() {
        let (mut book, peer) = (AddressBook::default(), test_peer(1));
        book.confirm(peer, &address("/ip4/10.0.0.1/tcp/1"));
        for port in 2..100 {
            book.add_texts(peer, &[format!("/ip4/10.0.0.1/tcp/{port}")]);
        }
        let kept = texts(&book, peer);
        assert_eq!(kept.len(), 1 + MAX_PER_PEER);
        assert_eq!(kept[0], "/ip4/10.0.0.1/tcp/1");
        assert_eq!(kept[1], "/ip4/10.0.0.1/tcp/99");
        book.add_texts(peer, &["/ip4/10.0.0.1/tcp/99".to_owned()]);
        assert_eq!(texts(&book, peer), kept, "a repeat changes nothing");
        book.remove(&peer, &address(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}")));
        assert_eq!(texts(&book, peer)[0], "/ip4/10.0.0.1/tcp/99");
    }

    #[test]
    fn the_oldest_peer_goes_when_the_book_is_full() {
        let mut book = AddressBook::default();
        let peers: Vec<PeerId> = (0..MAX_PEERS + 1).map(|_| PeerId::random()).collect();
        for peer in &peers[..MAX_PEERS] {
            book.add(*peer, &address("/ip4/10.0.0.1/tcp/1"));
        }
        book.add(peers[0], &address("/ip4/10.0.0.1/tcp/2"));
        book.add(peers[MAX_PEERS], &address("/ip4/10.0.0.1/tcp/1"));
        assert_eq!((book.entries.len(), book.by_age.len()), (MAX_PEERS, MAX_PEERS));
        assert_eq!(book.addresses(&peers[1]), [], "the second is now the oldest");
        assert_eq!(book.addresses(&peers[0]).len(), 2);
    }

    #[test]
    fn a_peer_is_not_believed_to_be_on_our_host_or_network_when_it_speaks_from_outside() {
        let table = [
            ("/ip4/127.0.0.1/tcp/1", 3),
            ("/ip4/192.168.0.9/tcp/1", 2),
            ("/ip6/fd00::1/tcp/1", 2),
            ("/ip4/100.64.0.1/tcp/1", 2),
            ("/ip4/9.9.9.9/tcp/1", 1),
            ("/ip6/2001:db8::1/tcp/1", 1),
            ("/ip6/::ffff:127.0.0.1/tcp/1", 3),
            ("/dns4/localhost/tcp/1", 3),
            ("/dns4/example.org/tcp/1", 1),
        ];
        let said = ["/ip4/127.0.0.1/tcp/2", "/ip4/192.168.0.1/tcp/2", "/ip4/8.8.8.8/tcp/2"].map(address);
        for (remote, kept) in table {
            let (mut book, peer) = (AddressBook::default(), test_peer(1));
            book.add_heard(peer, &said, reach_of_remote(&address(remote)));
            assert_eq!(book.addresses(&peer).len(), kept, "{remote}");
        }
    }

    #[test]
    fn a_name_leads_into_our_network_if_its_peer_sees_us_there() {
        let table = [
            ("/dns4/nas/tcp/1", "/ip4/10.0.0.2/tcp/9", Reach::Network),
            ("/dns4/nas/tcp/1", "/ip4/127.0.0.1/tcp/9", Reach::Network),
            ("/dns4/nas/tcp/1", "/ip4/9.9.9.9/tcp/9", Reach::World),
            ("/dns/localhost/tcp/1", "/ip4/9.9.9.9/tcp/9", Reach::Host),
            ("/ip4/9.9.9.9/tcp/1", "/ip4/10.0.0.2/tcp/9", Reach::World),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/9.9.9.9/tcp/9", Reach::Network),
        ];
        for (remote, observed, expected) in table {
            assert_eq!(reach_as_seen(&address(remote), &address(observed)), expected, "{remote} {observed}");
        }
    }

    #[test]
    fn what_works_comes_first_then_the_widest_and_each_ip_with_both_transports() {
        let expected = [
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/8.8.8.8/tcp/1",
            "/ip4/8.8.8.8/udp/1/quic-v1",
            "/ip4/9.9.9.9/tcp/1",
            "/ip4/10.0.0.2/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
        ]
        .map(address);
        let mut said = expected.to_vec();
        said.reverse();
        assert_eq!(by_use(said, Some(&address("/ip4/10.0.0.1/tcp/77"))), expected);
    }

    #[test]
    fn our_own_host_is_dialled_only_if_we_listen_there_or_nothing_else_is_known() {
        let (host, far) = (address("/ip4/127.0.0.1/tcp/1"), address("/ip4/10.0.0.1/tcp/1"));
        let both = vec![host.clone(), far.clone()];
        assert_eq!(elsewhere(both.clone(), false), [far]);
        assert_eq!(elsewhere(both.clone(), true), both);
        assert_eq!(elsewhere(vec![host.clone()], false), [host]);
    }

    #[test]
    fn a_forgotten_peer_leaves_nothing_behind() {
        let (mut book, peer) = (AddressBook::default(), test_peer(1));
        book.confirm(peer, &address("/ip4/10.0.0.1/tcp/1"));
        book.add(peer, &address("/ip4/10.0.0.1/tcp/2"));
        book.forget(&peer);
        book.forget(&peer);
        assert_eq!((book.entries.len(), book.by_age.len()), (0, 0));
    }

    #[test]
    fn forgetting_the_last_address_forgets_the_peer() {
        let (mut book, peer) = (AddressBook::default(), test_peer(1));
        book.add(peer, &address("/ip4/10.0.0.1/tcp/1"));
        book.remove(&peer, &address("/ip4/10.0.0.1/tcp/1"));
        assert_eq!((book.entries.len(), book.by_age.len()), (0, 0));
    }
}
