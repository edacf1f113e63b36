//! What a token is worth: the chain from it up to the token that follows from none.
//!
//! A chain holds if every token in it was signed by the audience of the one before, allows nothing that the one before
//! does not, ends no later, and is within the depth that the one before leaves. Who the first issuer is, and whether
//! anybody trusts it, is not asked here.

use dms_messages::{ContentId, Did, MAX_TOKEN_DEPTH, Signed, Timestamp, Token};

/// Most tokens in a chain.
const MAX_CHAIN: usize = MAX_TOKEN_DEPTH as usize + 1;

/// What a whole chain proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Who may.
    pub holder: Did,
    /// On whose word, first of all.
    pub root: Did,
    /// What: the last token, within whose bounds the others were found to be.
    pub token: Token,
    /// When the root has signed, by its clock.
    pub rooted: Timestamp,
    /// From when, by the issuers' clocks.
    pub starts: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// Every token with who has signed it, the root's first.
    pub tokens: Vec<(ContentId, Did)>,
}

/// Why a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The token is for nobody.
    #[error("token {0} names nobody whom it is for")]
    NoAudience(ContentId),
    /// The token that it follows from was not shown.
    #[error("token {0} is not here, from which another follows")]
    Missing(ContentId),
    /// It was signed by another than the one whom the token before lets.
    #[error("token {0} was not signed by whom the one before it is for")]
    Stranger(ContentId),
    /// It allows more than the one before.
    #[error("token {0} allows more than the one before it")]
    Widened(ContentId),
    /// It ends later than the one before.
    #[error("token {0} ends later than the one before it")]
    Outlives(ContentId),
    /// No more tokens may follow.
    #[error("no token may follow where {0} does")]
    TooDeep(ContentId),
    /// It belongs to another mesh than the one before.
    #[error("token {0} is of another mesh")]
    Network(ContentId),
}

/// Follows a token up to the first one; `find` knows the others.
///
/// # Errors
/// [`ChainError`], with the token at fault.
pub fn prove<'t>(
    leaf: &'t Signed<Token>,
    network: &str,
    find: impl Fn(&ContentId) -> Option<&'t Signed<Token>>,
) -> Result<Proven, ChainError> {
    let holder = leaf.header().audience.ok_or(ChainError::NoAudience(leaf.content_id()))?;
    let mut chain = vec![leaf];
    loop {
        let token = chain[chain.len() - 1];
        let id = token.content_id();
        if token.header().network != network {
            return Err(ChainError::Network(id));
        }
        let Some(parent) = &token.value().parent else { break };
        if chain.len() == MAX_CHAIN {
            return Err(ChainError::TooDeep(id));
        }
        let parent = find(parent).ok_or(ChainError::Missing(*parent))?;
        follows(parent, token)?;
        chain.push(parent);
    }
    Ok(Proven {
        holder,
        root: chain[chain.len() - 1].issuer(),
        rooted: chain[chain.len() - 1].header().issued_at,
        token: leaf.value().clone(),
        starts: chain.iter().map(|token| token.header().issued_at).max().unwrap_or_default(),
        expires: leaf.header().expires_at,
        tokens: chain.iter().rev().map(|token| (token.content_id(), token.issuer())).collect(),
    })
}

/// Refuses a token that does not follow from its parent.
fn follows(parent: &Signed<Token>, token: &Signed<Token>) -> Result<(), ChainError> {
    let (id, may, does) = (token.content_id(), parent.value(), token.value());
    if parent.header().audience != Some(token.issuer()) {
        return Err(ChainError::Stranger(id));
    }
    // The depth has an error of its own, below.
    if !may.allows_all_of(&Token { depth: 0, ..does.clone() }) {
        return Err(ChainError::Widened(id));
    }
    if token.header().expires_at > parent.header().expires_at {
        return Err(ChainError::Outlives(id));
    }
    if does.depth >= may.depth {
        return Err(ChainError::TooDeep(id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dms_messages::Role;
    use dms_messages::ability::{REQUEST, REQUEST_BIDS, REQUEST_INVOKE};

    use super::*;
    use crate::testing::tokens::{NETWORK, Sign, key};

    /// A chain of tokens, the first one's first, each as `change` makes it; proven from its last.
    fn prove_all(chain: &[Signed<Token>]) -> Result<Proven, ChainError> {
        let known: BTreeMap<ContentId, &Signed<Token>> =
            chain.iter().map(|token| (token.content_id(), token)).collect();
        prove(&chain[chain.len() - 1], NETWORK, |id| known.get(id).copied())
    }

    fn sign(from: u8, to: u8, abilities: &[&str], depth: u8) -> Sign {
        Sign::new(from, to).abilities(abilities).depth(depth)
    }

    #[test]
    fn a_chain_proves_what_its_last_token_says() {
        let first = sign(1, 2, &["/"], 3).sign();
        let second = sign(2, 3, &["/dms"], 2).after(&first).sign();
        let third = sign(3, 4, &[REQUEST], 0).after(&second).sign();
        let proven = prove_all(&[first.clone(), second.clone(), third.clone()]).unwrap();
        assert_eq!((proven.root, proven.holder), (key(1).did(), key(4).did()));
        assert!(proven.token.allows(REQUEST_BIDS, None) && proven.token.allows(REQUEST_INVOKE, None));
        assert!(!proven.token.allows("/dms/provide/bid", None));
        assert_eq!(
            proven.tokens,
            [&first, &second, &third].map(|token| (token.content_id(), token.issuer()))
        );
        assert_eq!(proven.expires, third.header().expires_at);
    }

    #[test]
    fn every_way_out_of_the_bounds_of_a_parent_is_refused_by_name() {
        let first = sign(1, 2, &[REQUEST], 2).topics(&["advert", "bid-request"]).sign();
        let good = || sign(2, 3, &[REQUEST_BIDS], 1).topics(&["bid-request"]).after(&first);
        assert!(prove_all(&[first.clone(), good().sign()]).is_ok());
        type Error = fn(ContentId) -> ChainError;
        let table: Vec<(Sign, Error)> = vec![
            (Sign { from: 4, ..good() }, ChainError::Stranger),
            (good().abilities(&["/dms"]), ChainError::Widened),
            (good().abilities(&[REQUEST_BIDS, "/dms/provide"]), ChainError::Widened),
            (good().topics(&["advert", "status"]), ChainError::Widened),
            (Sign { topics: None, ..good() }, ChainError::Widened),
            (Sign { hours: 25, ..good() }, ChainError::Outlives),
            (good().depth(2), ChainError::TooDeep),
            (good().depth(7), ChainError::TooDeep),
            (Sign { to: None, ..good() }, ChainError::NoAudience),
            (Sign { network: "other", ..good() }, ChainError::Network),
        ];
        for (sign, error) in table {
            let token = sign.sign();
            assert_eq!(
                prove_all(&[first.clone(), token.clone()]),
                Err(error(token.content_id())),
                "{sign:?}"
            );
        }
    }

    #[test]
    fn a_token_that_lets_nobody_in_has_none_after_it() {
        let first = sign(1, 2, &["/"], 0).sign();
        let second = sign(2, 3, &["/"], 0).after(&first).sign();
        assert_eq!(prove_all(&[first, second.clone()]), Err(ChainError::TooDeep(second.content_id())));
    }

    #[test]
    fn a_chain_with_a_gap_or_a_thief_in_it_does_not_hold() {
        let first = sign(1, 2, &["/"], 3).sign();
        let second = sign(2, 3, &["/"], 2).after(&first).sign();
        let third = sign(3, 4, &["/"], 1).after(&second).sign();
        let gap = prove_all(&[first.clone(), third.clone()]);
        assert_eq!(gap, Err(ChainError::Missing(second.content_id())));
        // Somebody who saw the chain signs for itself.
        let thief = Sign { from: 9, ..sign(9, 9, &["/"], 1).after(&second) }.sign();
        assert_eq!(prove_all(&[first, second, thief.clone()]), Err(ChainError::Stranger(thief.content_id())));
    }

    #[test]
    fn roles_fit_below_an_admin_and_not_below_each_other() {
        let admin = Sign::new(1, 2).role(Role::Admin).sign();
        for role in [Role::Requester, Role::Provider, Role::Member] {
            let token = Sign::new(2, 3).role(role).after(&admin).sign();
            assert!(prove_all(&[admin.clone(), token.clone()]).is_ok());
            let further = Sign::new(3, 4).role(role).after(&token).sign();
            assert!(prove_all(&[admin.clone(), token, further]).is_err(), "{role} lets nobody in");
        }
    }
}
