//! To which touches before it a conversion is credited, and with how much of it.
//!
//! A conversion has [`PARTS`] parts, which its touches share, so that credits add up to whole conversions without any rounding. Each model
//! shares them in its own way; what cannot be shared evenly goes to the last touch. A touch is a touch of each conversion behind it that
//! is near enough.

use super::Event;

/// Parts of a conversion.
pub const PARTS: u32 = 1_000_000_000;
/// How many models there are.
pub const MODELS: usize = 5;

/// Touches between two looks at whether anybody waits.
const LOOK_EACH: usize = 4096;

/// How a conversion is shared; the number of each is its place among the parts of a touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// The first touch has all.
    First,
    /// The last touch has all.
    Last,
    /// All have as much.
    #[default]
    Linear,
    /// A touch that is a half-life older has half as much.
    Decay,
    /// The first and the last touch have so much, and those in between share the rest.
    Position,
}

/// What conversions are credited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crediting {
    /// How long before a conversion a touch may be, in what times are counted in.
    pub lookback: i128,
    /// After how long a touch has half as much ([`Model::Decay`]); more than 0.
    pub half_life: i64,
    /// What the first touch, those in between, and the last one have ([`Model::Position`]), of 100. Of two touches both share everything
    /// in that ratio, or evenly if both are 0; a single one has all.
    pub position: [u32; 3],
}

/// Parts of a conversion that a touch has, by [`Model`].
pub type Parts = [u32; MODELS];

impl Crediting {
    /// Calls `credit` with each conversion of a user, the touches that it is credited to, and the parts of each. The events stand in order
    /// ([`Event::order_of_things`]), and a conversion behind the touches of its moment. `check` is asked now and then whether to go on.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn each<E>(
        &self,
        events: &[Event],
        is_conversion: impl Fn(&Event) -> bool,
        mut credit: impl FnMut(&Event, &[Event], &[Parts]),
        check: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut touches, mut parts): (Vec<Event>, Vec<Parts>) = (Vec::new(), Vec::new());
        let (mut from, mut looked_at) = (0, 0);
        check()?;
        for event in events {
            if !is_conversion(event) {
                touches.push(*event);
                continue;
            }
            let is_too_old = |touch: &Event| i128::from(event.time) - i128::from(touch.time) > self.lookback;
            from += touches[from..].partition_point(is_too_old);
            let near = &touches[from..];
            self.share(near, &mut parts);
            credit(event, near, &parts);
            looked_at += 1 + near.len();
            if looked_at >= LOOK_EACH {
                looked_at = 0;
                check()?;
            }
        }
        Ok(())
    }

    /// The parts of each touch.
    fn share(&self, touches: &[Event], parts: &mut Vec<Parts>) {
        parts.clear();
        parts.resize(touches.len(), [0; MODELS]);
        let Some(last) = touches.len().checked_sub(1) else { return };
        parts[0][Model::First as usize] = PARTS;
        parts[last][Model::Last as usize] = PARTS;
        let even = PARTS / touches.len() as u32;
        parts.iter_mut().for_each(|parts| parts[Model::Linear as usize] = even);
        self.share_by_age(touches, parts);
        self.share_by_position(parts);
        for model in [Model::Linear, Model::Decay, Model::Position] {
            let others: u32 = parts[..last].iter().map(|parts| parts[model as usize]).sum();
            parts[last][model as usize] = PARTS - others;
        }
    }

    /// Of all but the last touch, rounded down.
    fn share_by_age(&self, touches: &[Event], parts: &mut [Parts]) {
        let newest = touches[touches.len() - 1].time;
        // Of what is in the lookback, whatever its length: the newest touch has 1.
        let weight = |touch: &Event| {
            let older = i128::from(newest) - i128::from(touch.time);
            (-(older as f64 / self.half_life as f64)).exp2()
        };
        let all: f64 = touches.iter().map(weight).sum();
        let mut left = PARTS;
        for (touch, parts) in touches.iter().zip(parts).take(touches.len() - 1) {
            let own = ((weight(touch) / all * f64::from(PARTS)) as u32).min(left);
            left -= own;
            parts[Model::Decay as usize] = own;
        }
    }

    /// Of all but the last touch, rounded down.
    fn share_by_position(&self, parts: &mut [Parts]) {
        let [first, middle, last] = self.position.map(u64::from);
        let of = |share: u64, all: u64| (u64::from(PARTS) * share / all.max(1)) as u32;
        let model = Model::Position as usize;
        match parts.len() {
            1 => {}
            2 if first + last == 0 => parts[0][model] = PARTS / 2,
            2 => parts[0][model] = of(first, first + last),
            count => {
                parts[0][model] = of(first, 100);
                let each = of(middle, 100) / (count - 2) as u32;
                parts[1..count - 1].iter_mut().for_each(|parts| parts[model] = each);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    /// A conversion's time, and the time, the thing and the parts of each touch.
    type Told = (i64, Vec<(i64, u32, Parts)>);

    fn told(crediting: &Crediting, events: &[Event]) -> Vec<Told> {
        let mut told = Vec::new();
        let add = |conversion: &Event, touches: &[Event], parts: &[Parts]| {
            let touches = touches.iter().zip(parts).map(|(touch, parts)| (touch.time, touch.fulfils, *parts));
            told.push((conversion.time, touches.collect()));
        };
        crediting.each(events, |event| event.fulfils == 9, add, || Ok::<(), ()>(())).expect("nobody cancels");
        told
    }

    #[test]
    fn each_model_shares_a_conversion() {
        let events: Vec<Event> = [(0, 1), (8 * DAY, 2), (15 * DAY, 3), (22 * DAY, 1), (22 * DAY, 9)]
            .map(|(time, fulfils)| Event { time, fulfils, group: 0 })
            .into();
        let crediting = Crediting { lookback: (30 * DAY).into(), half_life: 7 * DAY, position: [40, 20, 40] };
        let parts = |crediting: &Crediting, model: Model| -> Vec<u32> {
            told(crediting, &events)[0].1.iter().map(|(_, _, parts)| parts[model as usize]).collect()
        };
        assert_eq!(parts(&crediting, Model::First), [PARTS, 0, 0, 0]);
        assert_eq!(parts(&crediting, Model::Last), [0, 0, 0, PARTS]);
        assert_eq!(parts(&crediting, Model::Linear), [PARTS / 4; 4]);
        assert_eq!(parts(&crediting, Model::Position), [PARTS / 10 * 4, PARTS / 10, PARTS / 10, PARTS / 10 * 4]);
        // Two weeks are two half-lives: 1, 2 and 4 of 7.
        let recent = Crediting { lookback: (14 * DAY).into(), ..crediting };
        assert_eq!(parts(&recent, Model::Decay), [142_857_142, 285_714_285, 571_428_573]);
        assert_eq!(parts(&recent, Model::Linear), [333_333_333, 333_333_333, 333_333_334]);
        let two = Crediting { lookback: (7 * DAY).into(), position: [30, 60, 10], ..crediting };
        assert_eq!(parts(&two, Model::Position), [PARTS / 4 * 3, PARTS / 4]);
        assert_eq!(parts(&Crediting { position: [0, 100, 0], ..two }, Model::Position), [PARTS / 2; 2]);
        assert_eq!(parts(&Crediting { lookback: 0, ..two }, Model::Position), [PARTS]);
    }

    proptest! {
        #[test]
        fn credits_are_what_their_words_say(
            rows in prop::collection::vec((0..12i64, prop::sample::select(vec![1u32, 2, 3, 9])), 0..14),
            lookback in 0..12i128,
            half_life in 1..5i64,
            first in 0..=50u32,
            last in 0..=50u32,
        ) {
            let crediting = Crediting { lookback, half_life, position: [first, 100 - first - last, last] };
            let mut events: Vec<Event> =
                rows.iter().map(|(time, fulfils)| Event { time: *time, fulfils: *fulfils, group: 0 }).collect();
            events.sort_by(Event::order_of_things);
            let found = told(&crediting, &events);
            let wanted = naive::credits(&rows, &9, &crediting);
            prop_assert_eq!(found.len(), wanted.len());
            for ((time, touches), (wanted_time, wanted)) in found.iter().zip(&wanted) {
                prop_assert_eq!(time, wanted_time);
                let places: Vec<(i64, u32)> = touches.iter().map(|(time, thing, _)| (*time, *thing)).collect();
                let wanted_places: Vec<(i64, u32)> = wanted.iter().map(|(time, thing, _)| (*time, *thing)).collect();
                prop_assert_eq!(places, wanted_places);
                for model in 0..MODELS {
                    let all: u64 = touches.iter().map(|(.., parts)| u64::from(parts[model])).sum();
                    prop_assert_eq!(all, if touches.is_empty() { 0 } else { PARTS.into() });
                    for ((.., parts), (.., shares)) in touches.iter().zip(wanted) {
                        // What is left over is less than a part for each touch.
                        let apart = (f64::from(parts[model]) / f64::from(PARTS) - shares[model]).abs();
                        prop_assert!(apart < 1e-9 * (touches.len() + 1) as f64, "{} {:?} {:?}", model, parts, shares);
                    }
                }
            }
        }
    }
}
