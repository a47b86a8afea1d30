//! How often one may call: each token by a setting of the server, each tenant by its own limit, over all its tokens and doors.
//!
//! Who calls more often is told at once when to come again; nothing of the call was looked at but who sends it. Twice as many may come at once
//! as in a second on average.

use super::Principal;
use crate::error::{Failure, Kind};
use crate::state::lock;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

/// Calls that may come at once, of those of a second.
const BURST: NonZeroU32 = NonZeroU32::new(2).expect("more than none");
/// Tokens whose calls are counted before those that called long ago are forgotten.
const TOKENS_COUNTED: usize = 10_000;

/// See the module.
pub struct Rates {
    tokens: Option<(NonZeroU32, DefaultKeyedRateLimiter<String>)>,
    tenants: Mutex<HashMap<String, OfTenant>>,
    clock: DefaultClock,
}

struct OfTenant {
    /// As it was when counting began.
    limit: NonZeroU32,
    calls: Arc<DefaultDirectRateLimiter>,
}

impl Rates {
    /// `token_limit`: calls of a token in a second; `None`: as many as come.
    pub fn new(token_limit: Option<NonZeroU32>) -> Rates {
        let tokens = token_limit.map(|limit| (limit, RateLimiter::keyed(quota(limit))));
        Rates { tokens, tenants: Mutex::default(), clock: DefaultClock::default() }
    }

    /// Counts a call of somebody. Who needs no token calls as often as they like.
    ///
    /// # Errors
    /// [`Kind::TooManyCalls`], with when to come again.
    pub fn check(&self, principal: &Principal) -> Result<(), Failure> {
        let Some(name) = &principal.token else { return Ok(()) };
        if let Some((limit, tokens)) = &self.tokens {
            if tokens.len() > TOKENS_COUNTED {
                tokens.retain_recent();
            }
            let checked = tokens.check_key(&principal.id().to_owned());
            checked.map_err(|until| self.refused(&format!("the token `{name}`"), *limit, &until))?;
        }
        let Some((tenant, limit)) =
            principal.tenant.as_ref().and_then(|tenant| Some((tenant, tenant.limits.calls_per_second?)))
        else {
            return Ok(());
        };
        let calls = {
            let mut tenants = lock(&self.tenants);
            let begun = || OfTenant { limit, calls: Arc::new(RateLimiter::direct(quota(limit))) };
            let known = tenants.entry(tenant.name.clone()).or_insert_with(begun);
            if known.limit != limit {
                *known = begun();
            }
            Arc::clone(&known.calls)
        };
        calls.check().map_err(|until| self.refused(&format!("the tenant `{}`", tenant.name), limit, &until))
    }

    fn refused(&self, who: &str, limit: NonZeroU32, until: &NotUntil<<DefaultClock as Clock>::Instant>) -> Failure {
        let wait = until.wait_time_from(self.clock.now());
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let failure = Failure::new(Kind::TooManyCalls, format!("{who} may call {limit} times a second"));
        failure.suggest("call less often, or ask the operator for more").retry_after(seconds.max(1))
    }
}

fn quota(limit: NonZeroU32) -> Quota {
    Quota::per_second(limit).allow_burst(limit.saturating_mul(BURST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;
    use crate::access::tenants::{Limits, Tenant};

    fn calls(rates: &Rates, principal: &Principal) -> usize {
        (0..1_000).take_while(|_| rates.check(principal).is_ok()).count()
    }

    #[test]
    fn tokens_and_tenants_call_so_often_and_no_more() {
        let one = |limit| NonZeroU32::new(limit);
        let rates = Rates::new(one(10));
        let token = |id: &str| Principal::with_token(id, id, &[Scope::Query]);
        // Time goes on meanwhile, so there may be one more.
        assert!((20..=25).contains(&calls(&rates, &token("a"))));
        assert!((20..=25).contains(&calls(&rates, &token("b"))), "each has its own");
        let failure = rates.check(&token("a")).expect_err("too many");
        assert_eq!((failure.kind, failure.retry_after_seconds), (Kind::TooManyCalls, Some(1)));
        assert_eq!(calls(&rates, &Principal::anyone()), 1_000);
        let of = |id: &str, calls_per_second| {
            let limits = Limits { calls_per_second, ..Limits::default() };
            let tenant = Tenant { limits, ..Tenant::named("acme") };
            token(id).of(tenant)
        };
        let rates = Rates::new(None);
        assert_eq!(calls(&rates, &token("a")), 1_000);
        let (first, second) = (of("a", one(5)), of("b", one(5)));
        assert!((10..=15).contains(&(calls(&rates, &first) + calls(&rates, &second))), "they share the tenant's");
        assert!(calls(&rates, &of("a", one(50))) >= 100, "another limit is counted anew");
        assert_eq!(calls(&rates, &of("a", None)), 1_000);
    }
}
