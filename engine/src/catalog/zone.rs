//! Time zones as data: from which instant on clocks show what.
//!
//! The engine knows no time zone database. Whoever declares a fact hands over the zone's changes, and they are kept with the
//! fact: so a slice means the same hours for ever, whatever a later edition of the database says.

use std::sync::Arc;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name: `UTC`, `Asia/Shanghai`.
    pub name: String,
    /// Per change, rising: seconds since 1970 from which on, and seconds east of UTC.
    changes: Arc<[(i64, i32)]>,
    /// Seconds east of UTC before the first change.
    first: i32,
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Zone { name: "UTC".to_owned(), changes: Arc::default(), first: 0 }
    }
}

impl Zone {
    /// A zone of its offset before the first change (seconds east of UTC), and its changes, rising.
    pub fn new(name: &str, first: i32, changes: Vec<(i64, i32)>) -> Zone {
        debug_assert!(changes.is_sorted_by(|a, b| a.0 < b.0));
        Zone { name: name.to_owned(), changes: changes.into(), first }
    }

    /// See [`Zone::new`].
    pub fn first(&self) -> i32 {
        self.first
    }

    /// See [`Zone::new`].
    pub fn changes(&self) -> &[(i64, i32)] {
        &self.changes
    }

    /// What the zone's clocks show at an instant (microseconds since 1970), as if it were UTC.
    pub fn local(&self, micros: i64) -> i64 {
        let seconds = micros.div_euclid(1_000_000);
        let later = self.changes.partition_point(|(from, _)| *from <= seconds);
        let offset = later.checked_sub(1).map_or(self.first, |at| self.changes[at].1);
        micros.saturating_add(i64::from(offset) * 1_000_000)
    }

    /// Whether what the clocks show tells all instants before this one (microseconds since 1970) from it and all behind: not
    /// where they are set back to or over what they show then.
    pub fn divides(&self, micros: i64) -> bool {
        let local = self.local(micros);
        let mut before = self.first;
        self.changes.iter().all(|(from, after)| {
            let from_micros = from.saturating_mul(1_000_000);
            let shows = |offset: i32| from_micros.saturating_add(i64::from(offset) * 1_000_000);
            let (shows_before, shows_after) = (shows(before), shows(*after));
            before = *after;
            if from_micros <= micros { shows_before <= local } else { shows_after >= local }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_shown_twice_divides_nothing() {
        const HOUR: i64 = 3_600;
        let divides = |change: i64, seconds: i64| {
            let zone = Zone::new("Test/Back", 3_600, vec![(change, 0)]);
            zone.divides(seconds * 1_000_000)
        };
        // At one o'clock back to midnight: the first midnight divides, the second, an hour later, does not.
        assert!(divides(24 * HOUR, 23 * HOUR) && !divides(24 * HOUR, 24 * HOUR));
        assert!(divides(24 * HOUR, 48 * HOUR) && divides(24 * HOUR, -HOUR));
        // A minute past midnight back to a minute past eleven: neither does.
        assert!(!divides(23 * HOUR + 60, 23 * HOUR) && !divides(23 * HOUR + 60, 24 * HOUR));
        // At midnight back to eleven: clocks show midnight once.
        assert!(divides(23 * HOUR, 24 * HOUR));
        assert!(Zone::new("Test/On", 0, vec![(24 * HOUR, 3_600)]).divides(24 * HOUR * 1_000_000));
    }

    #[test]
    fn clocks_change_at_the_instant() {
        let zone = Zone::new("Europe/Berlin", 3_600, vec![(1_000, 7_200), (2_000, 3_600)]);
        let local = |seconds: i64| zone.local(seconds * 1_000_000) / 1_000_000;
        assert_eq!(
            [local(0), local(999), local(1_000), local(1_999), local(2_000)],
            [3_600, 4_599, 8_200, 9_199, 5_600]
        );
        assert_eq!(Zone::default().local(7), 7);
    }
}
