//! Where rising positions stand in a container, one behind the other.

use crate::bitmap::view::Container;

/// A walk over a container.
pub(super) struct Ranks<'a> {
    container: Container<'a>,
    /// The place of what is looked at next: an element, a word or a run.
    at: usize,
    /// Positions before it.
    before: u32,
}

impl<'a> Ranks<'a> {
    pub(super) fn new(container: Container<'a>) -> Self {
        Ranks { container, at: 0, before: 0 }
    }

    /// How many positions the container has before this one, if it has it. Positions asked for must rise.
    pub(super) fn rank(&mut self, position: u16) -> Option<u32> {
        match self.container {
            Container::Array(array) => {
                let of = |element: &[u8; 2]| u16::from_le_bytes(*element);
                self.at += array[self.at..].partition_point(|element| of(element) < position);
                array.get(self.at).is_some_and(|element| of(element) == position).then_some(self.at as u32)
            }
            Container::Words(words) => {
                let index = usize::from(position >> 6);
                for word in &words[self.at..index] {
                    self.before += u64::from_le_bytes(*word).count_ones();
                }
                self.at = index;
                let (word, bit) = (u64::from_le_bytes(words[index]), position & 63);
                (word >> bit & 1 == 1).then(|| self.before + (word & ((1 << bit) - 1)).count_ones())
            }
            Container::Runs(runs) => {
                let of = |run: &[u8; 4]| (u16::from_le_bytes([run[0], run[1]]), u16::from_le_bytes([run[2], run[3]]));
                while let Some((first, more)) = runs.get(self.at).map(of) {
                    if position < first {
                        return None;
                    }
                    if position - first <= more {
                        return Some(self.before + u32::from(position - first));
                    }
                    self.before += u32::from(more) + 1;
                    self.at += 1;
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::rising;
    use crate::bitmap::view::BitmapView;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn positions() -> impl Strategy<Value = BTreeSet<u32>> {
        let run = (0..65_536_u32, 1..3_000_u32).prop_map(|(from, count)| (from..65_536.min(from + count)).collect());
        let some = |range| proptest::collection::btree_set(0..65_536_u32, range);
        let pieces = proptest::collection::vec(prop_oneof![run, some(0..300)], 0..6);
        let all = pieces.prop_map(|pieces: Vec<BTreeSet<u32>>| pieces.into_iter().flatten().collect());
        prop_oneof![all, some(5_000..9_000)]
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_a_set(set in positions(), asked in positions()) {
            let mut bytes = Vec::new();
            rising::serialize(&set.iter().copied().collect::<Vec<_>>(), &mut bytes);
            let view = BitmapView::new(&bytes).expect("valid");
            prop_assume!(view.container_count() > 0);
            let mut ranks = Ranks::new(view.container(0));
            for position in &asked {
                let expected = set.contains(position).then(|| set.range(..position).count() as u32);
                prop_assert_eq!(ranks.rank(*position as u16), expected);
            }
        }
    }
}
