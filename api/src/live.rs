//! What live audiences tell those who listen: each change as it comes, and the last ones again to who lost the connection.

use crate::state::lock;
use engine::clock::Clock;
use ingest::clock::SystemClock;
use ingest::live::{MembershipChange, Observer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Changes that a listener may be behind.
const BEHIND_MAX: usize = 256;
/// Users in the changes of an audience that are kept for who comes back.
const RECENT_USERS_MAX: usize = 20_000;

/// The changes of all live audiences.
#[derive(Debug)]
pub struct ChangeFeeds {
    /// By list; none once the server stops.
    feeds: Mutex<Option<BTreeMap<String, Feed>>>,
}

#[derive(Debug)]
struct Feed {
    sender: broadcast::Sender<Arc<MembershipChange>>,
    /// Oldest first.
    recent: VecDeque<Arc<MembershipChange>>,
    recent_users: usize,
    /// Changes up to this time may not be among the recent ones.
    forgotten_at: i64,
}

/// What a listener gets.
pub struct Listening {
    /// What came since the change it knows.
    pub missed: Vec<Arc<MembershipChange>>,
    /// There may have been more, which are not known any more.
    pub has_gap: bool,
    /// What comes.
    pub receiver: broadcast::Receiver<Arc<MembershipChange>>,
}

impl Default for ChangeFeeds {
    fn default() -> Self {
        ChangeFeeds { feeds: Mutex::new(Some(BTreeMap::new())) }
    }
}

impl ChangeFeeds {
    /// Listens to the audience with this list. `after`: the time of the last change that the listener knows. `None` once the
    /// server stops.
    pub fn listen(&self, list_id: &str, after: Option<i64>) -> Option<Listening> {
        let now = SystemClock.now();
        let mut feeds = lock(&self.feeds);
        let feed = feeds.as_mut()?.entry(list_id.to_owned()).or_insert_with(|| Feed::new(now));
        let receiver = feed.sender.subscribe();
        let Some(after) = after else { return Some(Listening { missed: Vec::new(), has_gap: false, receiver }) };
        let missed = feed.recent.iter().filter(|change| change.at > after).cloned().collect();
        Some(Listening { missed, has_gap: after < feed.forgotten_at || after > now, receiver })
    }

    /// Ends all listening.
    pub fn close(&self) {
        *lock(&self.feeds) = None;
    }
}

impl Observer for ChangeFeeds {
    fn changed(&self, change: &Arc<MembershipChange>) {
        let mut feeds = lock(&self.feeds);
        let Some(feeds) = feeds.as_mut() else { return };
        feeds.entry(change.list_id.clone()).or_insert_with(|| Feed::new(change.at - 1)).push(change);
    }

    /// Whoever listens to another one hears that it ended.
    fn keep_only(&self, lists: &[&str]) {
        if let Some(feeds) = lock(&self.feeds).as_mut() {
            feeds.retain(|list, _| lists.contains(&list.as_str()));
        }
    }
}

impl Feed {
    fn new(forgotten_at: i64) -> Feed {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Feed { sender, recent: VecDeque::new(), recent_users: 0, forgotten_at }
    }

    fn push(&mut self, change: &Arc<MembershipChange>) {
        let users = |change: &MembershipChange| change.entered.len() + change.left.len();
        self.recent_users += users(change);
        self.recent.push_back(change.clone());
        while self.recent_users > RECENT_USERS_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_users -= users(&oldest);
            self.forgotten_at = oldest.at;
        }
        // Nobody listens at present.
        let _ = self.sender.send(change.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: i64, users: usize) -> Arc<MembershipChange> {
        let entered = (0..users).map(|user| user.to_string()).collect();
        let (audience, list_id) = ("vip".to_owned(), "vip@1".to_owned());
        Arc::new(MembershipChange { audience, list_id, at, entered, left: Vec::new(), size: 0, is_last: true })
    }

    fn times(listening: &Listening) -> Vec<i64> {
        listening.missed.iter().map(|change| change.at).collect()
    }

    #[test]
    fn who_comes_back_gets_what_was_missed() {
        let feeds = ChangeFeeds::default();
        (10..13).for_each(|at| feeds.changed(&change(at, 1)));
        let back = feeds.listen("vip@1", Some(10)).expect("open");
        assert_eq!((times(&back), back.has_gap), (vec![11, 12], false));
        let from_before_the_start = feeds.listen("vip@1", Some(4)).expect("open");
        assert_eq!((times(&from_before_the_start), from_before_the_start.has_gap), (vec![10, 11, 12], true));
        assert_eq!(times(&feeds.listen("vip@1", None).expect("open")), Vec::<i64>::new());
        assert!(feeds.listen("vip@1", Some(i64::MAX)).expect("open").has_gap, "the clock was set back");
        // One that was put again knows nothing of what the other told.
        assert!(feeds.listen("vip@2", Some(12)).expect("open").has_gap);
        feeds.keep_only(&["vip@2"]);
        assert!(back.receiver.is_closed(), "the other ended");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let feeds = ChangeFeeds::default();
        (10..16).for_each(|at| feeds.changed(&change(at, RECENT_USERS_MAX / 4)));
        let back = feeds.listen("vip@1", Some(10)).expect("open");
        assert_eq!((times(&back), back.has_gap), (vec![12, 13, 14, 15], true));
        assert!(!feeds.listen("vip@1", Some(11)).expect("open").has_gap);
        feeds.close();
        assert!(feeds.listen("vip@1", None).is_none());
    }
}
