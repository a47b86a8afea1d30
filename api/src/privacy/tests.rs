//! Attacks, as a game: a coin decides whether one user is in a set, the attacker knows everybody else in it and how answers are made, asks what it
//! likes within a budget, and says which it was. Chance is one half; five points more is what an attack may reach.
//!
//! The attacker adds up the logarithms of how much likelier each thing it sees is in one world than in the other, which is the best it
//! can do. Each round has a secret of its own, made from the number of the round, so that a test does the same in each run.
//!
//! `BELUGA_PRIVACY_ROUNDS` says how many rounds are played, 400 if it does not. With 400 the rate is within 4.9 points of the true one (95 %), with
//! 10,000 within one; an attack has failed if its true rate cannot be told to be more than 55 %.

use super::ledger::{Asked, By, Ledger};
use super::noise::Key;
use super::sketch::Sketch;
use super::{Epsilon, Privacy, SHARPNESS, Told};
use roaring::RoaringBitmap;

const ROUNDS: u32 = 400;
/// The rate that no attack may reach.
const RATE_MAX: f64 = 0.55;
const MIN_USERS: u32 = 100;
const EPSILON: f64 = 0.1;
/// The user in question.
const TARGET: u32 = 0;
/// Others who are surely in the set, and are known to the attacker.
const OTHERS: std::ops::Range<u32> = 1..401;
/// Users whom the attacker knows not to be in the set.
const OUTSIDE: u32 = 10_000;

/// One round: what a tenant may ask.
struct Round {
    key: Key,
    ledger: Ledger,
    privacy: Privacy,
    is_in: bool,
    /// For ties.
    coin: bool,
    /// What the attacker believes: above 0 that the user is in.
    belief: f64,
    epsilon: f64,
}

impl Round {
    fn new(number: u32, answers: u32) -> Round {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&number.to_le_bytes());
        let key = Key::of(secret);
        let draw = |what: &str| key.draw(what, &[], 0.001) & 1 == 1;
        let (is_in, coin) = (draw("world"), draw("coin"));
        let nowhere = std::path::Path::new("/nowhere/acme.ledger");
        let ledger = Ledger::open(nowhere, &key, "acme").expect("there is none");
        let privacy = Privacy { noise: Epsilon(EPSILON), answers, ..Privacy::of(MIN_USERS) };
        Round { key, ledger, privacy, is_in, coin, belief: 0.0, epsilon: EPSILON }
    }

    /// The set, and more users.
    fn set(&self, others: impl IntoIterator<Item = u32>, more: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        others.into_iter().chain(self.is_in.then_some(TARGET)).chain(more).collect()
    }

    /// `None`: the budget is used up.
    fn ask(&mut self, users: RoaringBitmap) -> Option<Told> {
        let by = By { key: &self.key, tenant: "acme", privacy: &self.privacy, now: 1, check: &|| Ok(()) };
        // The words are the attacker's, and do not matter before the budget is used up; then there is nothing to be learned.
        let asked = Asked { count: users.len(), sketch: Sketch::of(&self.key, &[users]), text: [0; 32] };
        let is_left = self.ledger.left(&self.privacy, 1) > 0;
        is_left.then(|| self.ledger.told(by, &asked).expect("one is left"))
    }

    /// A number was told of a set that has so many users, and one more if the user is in.
    fn heard(&mut self, told: u64, without: u64) {
        let off = |count: u64| told.abs_diff(count) as f64;
        self.belief += self.epsilon * (off(without) - off(without + 1));
    }

    fn is_right(&self) -> bool {
        let guess = if self.belief == 0.0 { self.coin } else { self.belief > 0.0 };
        guess == self.is_in
    }
}

/// How probably the line is at most at `count` users.
fn line_is_at_most(count: u64) -> f64 {
    let ratio = (-SHARPNESS / f64::from(MIN_USERS)).exp();
    let over = count as i64 - 2 * i64::from(MIN_USERS);
    match over >= 0 {
        true => 1.0 - ratio.powi(over as i32 + 1) / (1.0 + ratio),
        false => ratio.powi(-over as i32) / (1.0 + ratio),
    }
}

/// Plays, and tells the rate of right guesses that the true one is at least, 19 times of 20.
fn play(attack: &str, answers: u32, attacker: impl Fn(&mut Round)) -> f64 {
    let rounds = std::env::var("BELUGA_PRIVACY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let right = (0..rounds).filter(|number| {
        let mut round = Round::new(*number, answers);
        attacker(&mut round);
        round.is_right()
    });
    let rate = right.count() as f64 / f64::from(rounds);
    let sure = 1.645 * (rate * (1.0 - rate) / f64::from(rounds)).sqrt();
    println!("{attack}: {:.1} % (± {:.1}) of {rounds} rounds are guessed right", rate * 100.0, sure * 100.0);
    rate - sure
}

#[test]
fn an_attacker_who_takes_one_user_away_sees_no_difference() {
    let rate = play("differencing", 1_000, |round| {
        let with = round.ask(round.set(OTHERS, [])).expect("within the budget");
        let told = with.number().expect("many");
        for without in [0, 1, 2, 30] {
            let again = round.ask(OTHERS.skip(without).collect()).expect("within the budget");
            assert_eq!(again.number(), Some(told), "{without} others and the user are taken away");
        }
        round.heard(told, u64::from(OTHERS.end - OTHERS.start));
    });
    assert!(rate <= RATE_MAX, "{rate}");
}

#[test]
fn asking_again_and_otherwise_tells_no_more_than_asking_once() {
    let rate = play("averaging", 1_000, |round| {
        let count = u64::from(OTHERS.end - OTHERS.start);
        let mut sum = 0;
        for nth in 0..8u32 {
            // The same, and with a few others more or less: the attacker knows by how many.
            let set = round.set(OTHERS.skip(nth as usize / 2), OUTSIDE..OUTSIDE + nth / 2);
            sum += round.ask(set).and_then(Told::number).expect("within the budget, and many");
        }
        round.heard(sum / 8, count);
        assert_eq!(sum % 8, 0, "one number");
    });
    assert!(rate <= RATE_MAX, "{rate}");
}

#[test]
fn sets_that_are_far_from_each_other_tell_what_their_noise_lets_through() {
    let triangulate = |round: &mut Round| {
        for nth in 0..u32::MAX {
            // Farther from each other than any line.
            let more = OUTSIDE + nth * 1_000..OUTSIDE + nth * 1_000 + 350;
            let Some(told) = round.ask(round.set(OTHERS, more)) else { return };
            let Told::New(told) = told else { panic!("{told:?}") };
            round.heard(told, u64::from(OTHERS.end - OTHERS.start) + 350);
        }
    };
    let rate = play("triangulation with 4 answers", 4, triangulate);
    assert!(rate <= RATE_MAX, "{rate}");
    // That the game can be won shows that it is one: with little noise four answers tell of the user.
    let rate = play("triangulation with 4 answers, noise 1", 4, |round| {
        (round.epsilon, round.privacy.noise) = (1.0, Epsilon(1.0));
        triangulate(round);
    });
    assert!(rate > RATE_MAX, "{rate}");
}

#[test]
fn the_line_to_few_users_cannot_be_searched() {
    let few = 180;
    let rate = play("threshold search with 2 answers", 2, |round| {
        for nth in 0..40u32 {
            // Of so many the attacker knows that they are in: the user makes one more.
            let set = round.set(1_000 * nth + 1..1_000 * nth + 1 + few, []);
            let Some(told) = round.ask(set) else { return };
            let few = u64::from(few);
            let [without, with] = [few, few + 1].map(line_is_at_most);
            match told.number() {
                None => round.belief += ((1.0 - with) / (1.0 - without)).ln(),
                Some(told) => {
                    round.belief += (with / without).ln();
                    round.heard(told, few);
                }
            }
        }
    });
    assert!(rate <= RATE_MAX, "{rate}");
}

#[test]
fn the_line_to_near_sets_cannot_be_searched() {
    let apart = 185;
    let rate = play("search for what is near, with 2 answers", 2, |round| {
        let count = u64::from(OTHERS.end - OTHERS.start);
        let first = round.ask(round.set(OTHERS, [])).and_then(Told::number).expect("many");
        round.heard(first, count);
        for nth in 0..25u32 {
            // With the user, whether it is in or not: so far from the first, and one farther if it is not.
            let more = OUTSIDE + nth * 1_000..OUTSIDE + nth * 1_000 + apart;
            let Some(told) = round.ask(OTHERS.chain([TARGET]).chain(more).collect()) else { return };
            let apart = u64::from(apart);
            let [without, with] = [apart + 1, apart].map(line_is_at_most);
            round.belief += match told {
                Told::Near(_) | Told::Again(_) => ((1.0 - with) / (1.0 - without)).ln(),
                Told::New(_) | Told::Few => (with / without).ln(),
            };
        }
    });
    assert!(rate <= RATE_MAX, "{rate}");
}

#[test]
fn nothing_is_ever_told_of_fewer_than_the_policy_says() {
    for number in 0..300 {
        let mut round = Round::new(number, 1_000);
        for count in [0, 1, 50, 99] {
            assert_eq!(round.ask((0..count).collect()), Some(Told::Few), "{count}");
        }
        let many = round.ask((0..301).collect()).and_then(Told::number).expect("more than three times as many");
        assert!(many >= u64::from(MIN_USERS));
        // Nor of a difference.
        let mut near = 0;
        for less in [1, 50, 99] {
            near +=
                usize::from(round.ask((less..301).collect()).and_then(Told::number).is_none_or(|told| told == many));
        }
        assert_eq!(near, 3);
    }
}

#[test]
fn the_policy_of_now_holds_for_what_was_told_before() {
    let mut round = Round::new(1, 1_000);
    round.privacy.min_users = 10;
    let told = round.ask((0..60).collect()).and_then(Told::number);
    assert!(told.is_some());
    round.privacy.min_users = 100;
    assert_eq!(round.ask((0..60).collect()), Some(Told::Few));
    let without = Privacy { noise: Epsilon(0.0), ..Privacy::of(10) };
    round.privacy = without;
    assert_eq!(round.ask((0..61).collect()).and_then(Told::number), told, "what was told with noise is told so");
    assert_eq!(round.ask((1_000..2_000).collect()), Some(Told::New(1_000)));
}

#[test]
fn a_policy_has_its_ranges() {
    type Change = fn(&mut Privacy);
    let checked = |change: Change| {
        let mut privacy = Privacy::of(100);
        change(&mut privacy);
        privacy.check().map_err(|failure| failure.pointer.unwrap_or_default())
    };
    assert_eq!(checked(|_| {}), Ok(()));
    assert_eq!(checked(|privacy| privacy.noise = Epsilon(0.0)), Ok(()));
    let refused: [(&str, Change); 8] = [
        ("min_users", |privacy| privacy.min_users = 1),
        ("min_users", |privacy| privacy.min_users = 100_001),
        ("noise", |privacy| privacy.noise = Epsilon(0.0001)),
        ("noise", |privacy| privacy.noise = Epsilon(-1.0)),
        ("noise", |privacy| privacy.noise = Epsilon(f64::NAN)),
        ("answers", |privacy| privacy.answers = 0),
        ("answers", |privacy| privacy.answers = 10_001),
        ("every_hours", |privacy| privacy.every_hours = 0),
    ];
    for (name, change) in refused {
        assert_eq!(checked(change), Err(format!("/privacy/{name}")), "{name}");
    }
}
