//! What a tenant under a privacy policy is told of its users: numbers of many, and nothing from which one user could be told apart.
//!
//! Each number is asked about with the set of users behind it (slots per shard) before it leaves:
//!
//! * A set of fewer than about twice `min_users` is *few*, nobody included: its number is not told. Where exactly the line is, between once
//!   and three times `min_users`, is drawn for each set with a secret.
//! * A set that differs by as few users from one that was answered before is *near*: it gets the number that was told for that one. (To
//!   refuse it would tell that it is near; and nobody is the first set of all, so that few users are those near it.)
//! * Any other set gets a number of its own: how many it has and noise, drawn for the set with the secret. It is written down, and is one of
//!   the answers that the policy grants for a time.
//!
//! What is a line in the open could be searched for with sets of users one knows, and one step over it tells of one user: hence the secret lines,
//! which an answer at most makes a little more or less likely. docs/privacy.md says what that comes to.
//!
//! What is not asked of a [`Guard`] is refused: [`doors`] is the one list of what is answered, and a test holds it against the routes.
//!
//! * [`sketch`]: how far apart two sets are. * [`ledger`]: what was told. * [`noise`]: the secret, and what is drawn with it.

pub mod doors;
mod ledger;
mod noise;
mod sketch;
#[cfg(test)]
mod tests;

use crate::access::tenants::Tenant;
use crate::access::{Principal, failed};
use crate::error::{Failure, Kind};
use crate::queries::Running;
use crate::state::lock;
use engine::audience::ops::{self, QueryContext};
use engine::audience::predicate::Predicate;
use engine::store::Snapshot;
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
pub use ledger::Asked;
use ledger::{By, Ledger};
use noise::Key;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use sketch::Sketch;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// The folder in the data directory.
pub const FOLDER: &str = "privacy";
const KEY: &str = "key";
const ENDING: &str = ".ledger";

const MIN_USERS: std::ops::RangeInclusive<u32> = 2..=100_000;
const NOISE: std::ops::RangeInclusive<f64> = 0.001..=10.0;
const ANSWERS: std::ops::RangeInclusive<u32> = 1..=10_000;
const EVERY_HOURS: std::ops::RangeInclusive<u32> = 1..=87_600;
/// How sharply `min_users` is drawn: the line between near and far is this over `min_users` as an epsilon.
const SHARPNESS: f64 = 10.0;

/// How much noise: the epsilon of one answer; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epsilon(pub f64);

/// A number that is none is refused where a policy is set.
impl Eq for Epsilon {}

/// What a tenant is told of its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// No number is told of fewer users, nor of a difference by so few: from 2 to 100,000. Numbers are told from about twice as many on.
    pub min_users: u32,
    /// Noise on each number: the epsilon of one answer, from 0.001 to 10, less being more noise; 0 is none, and 0.1 if it is left out.
    #[serde(default = "noise_default")]
    #[schema(value_type = f64)]
    pub noise: Epsilon,
    /// How many different answers may be given within the period, up to 10,000; 1,000 if it is left out.
    #[serde(default = "answers_default")]
    pub answers: u32,
    /// The period, in hours; 720 if it is left out.
    #[serde(default = "every_hours_default")]
    pub every_hours: u32,
}

/// Noise of a policy that does not say how much.
pub fn noise_default() -> Epsilon {
    Epsilon(0.1)
}

/// Answers of a policy that does not say how many.
pub fn answers_default() -> u32 {
    1_000
}

/// Hours of a policy that does not say how many.
pub fn every_hours_default() -> u32 {
    720
}

impl Privacy {
    /// A policy that says nothing else.
    pub fn of(min_users: u32) -> Privacy {
        let (noise, answers, every_hours) = (noise_default(), answers_default(), every_hours_default());
        Privacy { min_users, noise, answers, every_hours }
    }

    /// # Errors
    /// [`Kind::InvalidField`] if a number is out of its range.
    pub fn check(&self) -> Result<(), Failure> {
        let whole = [
            ("min_users", self.min_users, MIN_USERS),
            ("answers", self.answers, ANSWERS),
            ("every_hours", self.every_hours, EVERY_HOURS),
        ];
        if let Some((name, _, range)) = whole.iter().find(|(_, value, range)| !range.contains(value)) {
            let detail = format!("`{name}` is from {} to {}", range.start(), range.end());
            return Err(Failure::field(format!("/privacy/{name}"), detail));
        }
        if self.noise.0 != 0.0 && !NOISE.contains(&self.noise.0) {
            let detail = format!("`noise` is an epsilon from {} to {}, or 0 for none", NOISE.start(), NOISE.end());
            return Err(Failure::field("/privacy/noise", detail).suggest("0.1 is noise of about 14 users"));
        }
        Ok(())
    }

    /// Of fewer users, so says a number that is not told.
    pub fn few(&self) -> u64 {
        3 * u64::from(self.min_users)
    }

    fn period_micros(&self) -> i64 {
        i64::from(self.every_hours) * 3_600_000_000
    }

    /// By how many users a set differs at least from those that are not near it: from once to three times `min_users`.
    fn far_from(&self, key: &Key, tenant: &str, sketch: &Sketch) -> u64 {
        let min = i64::from(self.min_users);
        let drawn = key.draw("line", &[tenant.as_bytes(), sketch.bytes()], SHARPNESS / f64::from(self.min_users));
        drawn.clamp(-min, min).saturating_add(2 * min).unsigned_abs()
    }

    /// The number that a set is told with.
    fn noised(&self, key: &Key, tenant: &str, asked: &Asked) -> u64 {
        let Epsilon(epsilon) = self.noise;
        if epsilon == 0.0 {
            return asked.count;
        }
        let noise = key.draw("noise", &[tenant.as_bytes(), asked.sketch.bytes(), &epsilon.to_le_bytes()], epsilon);
        asked.count.saturating_add_signed(noise).max(u64::from(self.min_users))
    }
}

/// What is told of a set of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// They are few.
    Few,
    /// A number of its own, for the first time.
    New(u64),
    /// The number that was told before.
    Again(u64),
    /// The number of a set that is near it.
    Near(u64),
}

impl Told {
    /// The number; `None` if they are few.
    pub fn number(self) -> Option<u64> {
        match self {
            Told::Few => None,
            Told::New(number) | Told::Again(number) | Told::Near(number) => Some(number),
        }
    }
}

/// What is known of all tenants under a policy; read when it is asked for first.
#[derive(Debug)]
pub struct Guards {
    folder: PathBuf,
    key: OnceLock<Key>,
    ledgers: Mutex<HashMap<String, Arc<Mutex<Ledger>>>>,
}

impl Guards {
    /// Of a data directory.
    pub fn new(data: &Path) -> Guards {
        Guards { folder: data.join(FOLDER), key: OnceLock::new(), ledgers: Mutex::default() }
    }

    /// Who watches over what somebody is told; `None` if they are under no policy.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]; [`Kind::Corrupt`] if what was told is damaged.
    pub fn of(&self, principal: &Principal) -> Result<Option<Guard>, Failure> {
        let guard = principal.tenant.as_ref().map_or(Ok(None), |tenant| self.of_tenant(tenant))?;
        let seen = || {
            let purposes = principal.purposes.iter().map(|purpose| (&purpose.name, &purpose.filter));
            let filter = principal.tenant.as_ref().map(|tenant| &tenant.filter);
            format!("{:?}", (filter, purposes.collect::<Vec<_>>()))
        };
        Ok(guard.map(|guard| Guard { seen: seen(), ..guard }))
    }

    /// The same of a tenant.
    ///
    /// # Errors
    /// As there.
    pub fn of_tenant(&self, tenant: &Arc<Tenant>) -> Result<Option<Guard>, Failure> {
        let Some(privacy) = &tenant.privacy else { return Ok(None) };
        let mut ledgers = lock(&self.ledgers);
        let key = match self.key.get() {
            Some(key) => key.clone(),
            None => {
                let key = self.open_key()?;
                self.key.get_or_init(|| key).clone()
            }
        };
        let ledger = match ledgers.get(&tenant.name) {
            Some(ledger) => Arc::clone(ledger),
            None => {
                let path = self.folder.join(format!("{}{ENDING}", tenant.name));
                let ledger = Arc::new(Mutex::new(Ledger::open(&path, &key, &tenant.name)?));
                ledgers.insert(tenant.name.clone(), Arc::clone(&ledger));
                ledger
            }
        };
        let (tenant, privacy, seen) = (tenant.name.clone(), privacy.clone(), String::new());
        Ok(Some(Guard { tenant, privacy, seen, key, ledger }))
    }

    fn open_key(&self) -> Result<Key, Failure> {
        RealVfs.create_folder(&self.folder).map_err(|error| failed(&self.folder, &error))?;
        let listed = std::fs::read_dir(&self.folder).map_err(|error| failed(&self.folder, &error))?;
        let is_ledger = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(ENDING);
        let has_ledgers = listed.flatten().any(|entry| is_ledger(&entry.file_name()));
        Key::open(&self.folder.join(KEY), !has_ledgers)
    }
}

/// Watches over what a tenant is told.
#[derive(Clone, Debug)]
pub struct Guard {
    tenant: String,
    privacy: Privacy,
    /// Which users are seen at all: the same words mean others to who sees others.
    seen: String,
    key: Key,
    ledger: Arc<Mutex<Ledger>>,
}

/// How much of what a policy grants was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Used {
    /// Answers given within the period.
    pub answers: u64,
    /// Answers that are left.
    pub left: u64,
    /// What the noise of the answers given comes to, added up: answers times the epsilon of one; null without noise.
    pub epsilon: Option<f64>,
}

/// Users that a question is about, as slots per shard.
pub type Users = Vec<RoaringBitmap>;

impl Guard {
    /// Of fewer users is a number that is not told.
    pub fn few(&self) -> u64 {
        self.privacy.few()
    }

    /// Of fewer users nothing is told by whatever line.
    pub fn min_users(&self) -> u32 {
        self.privacy.min_users
    }

    /// How much was used.
    pub fn used(&self) -> Used {
        let (ledger, now) = (lock(&self.ledger), now());
        let (answers, left) = (ledger.used(&self.privacy, now), ledger.left(&self.privacy, now));
        let Epsilon(epsilon) = self.privacy.noise;
        Used { answers, left, epsilon: (epsilon > 0.0).then_some(answers as f64 * epsilon) }
    }

    /// The users of an expression.
    ///
    /// # Errors
    /// [`Kind::Forbidden`] if it cannot be answered under a policy; as [`ops::slots`].
    pub fn users(&self, snapshot: &Snapshot, predicate: &Predicate, context: &QueryContext) -> Result<Users, Failure> {
        self.check(predicate)?;
        Ok(ops::slots(snapshot, predicate, context)?)
    }

    /// That an expression may be asked: who is like whom is told by the lookalike alone, which looks at the seed.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn check(&self, predicate: &Predicate) -> Result<(), Failure> {
        if !has_similar(predicate) {
            return Ok(());
        }
        Err(refused("`similar_to` in an expression")
            .suggest("ask POST /v1/lookalike, which looks how large the seed is"))
    }

    /// What is told of sets of users: of all of them, or on a failure of none. The audit log tells which verdicts there were.
    ///
    /// # Errors
    /// [`Kind::PrivacyBudget`]; the disk's; that of a question that is over, which has used up what it was given until then.
    pub fn tell(&self, asked: &[Asked], context: &QueryContext, running: &Running) -> Result<Vec<Told>, Failure> {
        let told = lock(&self.ledger).tell(self.by(&|| Ok(context.check()?)), asked);
        match &told {
            Ok(told) => running.judges(&verdict(told, self.privacy.noise.0 > 0.0)),
            Err(failure) if failure.kind == Kind::PrivacyBudget => running.judges("over budget"),
            Err(_) => {}
        }
        told
    }

    /// That users may be listed, or learned from: that they are not few.
    ///
    /// # Errors
    /// [`Kind::TooFewUsers`].
    pub fn list(&self, users: &[RoaringBitmap], running: &Running) -> Result<(), Failure> {
        let asked = self.asked(users, "");
        if asked.count >= self.privacy.far_from(&self.key, &self.tenant, &asked.sketch) {
            running.judges("exact");
            return Ok(());
        }
        running.judges("below");
        let few = self.few();
        let detail =
            format!("these are fewer than {few} users, and the tenant `{}` is told nothing of so few", self.tenant);
        Err(Failure::new(Kind::TooFewUsers, detail).suggest("ask something wider"))
    }

    /// That there is an answer left: for a question whose words do not say what numbers it asks for.
    ///
    /// # Errors
    /// [`Kind::PrivacyBudget`].
    pub fn check_left(&self, running: &Running) -> Result<(), Failure> {
        let by = self.by(&|| Ok(()));
        lock(&self.ledger).check_left(by).inspect_err(|_| running.judges("over budget"))
    }

    fn by<'b>(&'b self, check: &'b dyn Fn() -> Result<(), Failure>) -> By<'b> {
        By { key: &self.key, tenant: &self.tenant, privacy: &self.privacy, now: now(), check }
    }

    /// What is kept of a set of users, whose bitmaps are not needed any more, and of words that mean it.
    pub fn asked(&self, users: &[RoaringBitmap], words: &str) -> Asked {
        let text = self.key.seal("words", &[self.tenant.as_bytes(), self.seen.as_bytes(), words.as_bytes()]);
        Asked { sketch: Sketch::of(&self.key, users), count: users.iter().map(RoaringBitmap::len).sum(), text }
    }
}

/// That something is not answered to a tenant under a policy.
pub fn refused(what: &str) -> Failure {
    Failure::new(Kind::Forbidden, format!("{what} is not answered under a minimum audience size"))
}

/// What came of a question under a policy, for the audit log: each kind of verdict that there was.
fn verdict(told: &[Told], has_noise: bool) -> String {
    let name = |told: &Told| match told {
        Told::Few => "below",
        Told::Near(_) => "snapped",
        Told::New(_) | Told::Again(_) if has_noise => "noised",
        Told::New(_) | Told::Again(_) => "exact",
    };
    let names: std::collections::BTreeSet<&str> = told.iter().map(name).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// Users in both.
pub fn both(a: &[RoaringBitmap], b: &[RoaringBitmap]) -> Users {
    a.iter().zip(b).map(|(a, b)| a & b).collect()
}

fn has_similar(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Similar(_) => true,
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => of.iter().any(has_similar),
        Predicate::Xor(a, b) => has_similar(a) || has_similar(b),
        Predicate::Not(of) => has_similar(of),
        Predicate::All
        | Predicate::Nobody
        | Predicate::HasAny(..)
        | Predicate::Flag(_)
        | Predicate::InRange(..)
        | Predicate::Known(_)
        | Predicate::Listed(_)
        | Predicate::Users(_)
        | Predicate::Did(_)
        | Predicate::Scan(_)
        | Predicate::Given(_) => false,
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
