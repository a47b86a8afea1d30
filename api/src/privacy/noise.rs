//! The secret of a data directory, and what is drawn with it: noise, and where the line between near and far is.
//!
//! Nothing is drawn twice: the same question about the same users gets the same number however it is written and whenever it is asked, also after a
//! restart, so that asking again tells nothing more. What the numbers are drawn by is known to nobody but the server.

use crate::access::failed;
use crate::error::{Failure, Kind};
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Geometric};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Bytes of the secret.
const KEY_BYTES: usize = 32;
/// Bytes of a seal.
pub(super) const SEAL_BYTES: usize = 32;

/// The secret. It is in no log and in no answer.
#[derive(Clone)]
pub(super) struct Key {
    secret: hmac::Key,
    of_users: [u8; 16],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn of(secret: [u8; KEY_BYTES]) -> Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let tag = hmac::sign(&secret, b"users");
        let of_users = tag.as_ref()[..16].try_into().expect("it is longer");
        Key { secret, of_users }
    }

    /// Reads the secret, or makes one if there is none and `may_make`.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]; [`Kind::Corrupt`] if it is damaged, or is missing and may not be made.
    pub(super) fn open(path: &Path, may_make: bool) -> Result<Key, Failure> {
        let corrupt = |what: &str| {
            let failure = Failure::new(Kind::Corrupt, format!("{}: {what}", path.display()));
            failure.suggest("restore the file from a backup; without it what was answered before cannot be read")
        };
        match std::fs::read(path) {
            Ok(bytes) => Ok(Key::of(bytes.try_into().map_err(|_| corrupt("it has not the length of a secret"))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {
                make(path).map_err(|error| failed(path, &error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(corrupt("the secret is missing")),
            Err(error) => Err(failed(path, &error)),
        }
    }

    /// By what users are hashed.
    pub(super) fn of_users(&self) -> &[u8; 16] {
        &self.of_users
    }

    /// What nobody without the secret can put below these parts.
    pub(super) fn seal(&self, purpose: &str, parts: &[&[u8]]) -> [u8; SEAL_BYTES] {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            // With its length, so that no two lists of parts are alike.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Two-sided geometric noise (the discrete Laplace distribution): a number `n` is drawn with a probability in proportion to
    /// `exp(-epsilon * |n|)`. The same for the same parts.
    pub(super) fn draw(&self, purpose: &str, parts: &[&[u8]], epsilon: f64) -> i64 {
        let mut random = ChaCha20Rng::from_seed(self.seal(purpose, parts));
        let geometric = Geometric::new(-(-epsilon).exp_m1()).expect("a probability, as epsilon is above 0");
        let mut one = || i64::try_from(geometric.sample(&mut random)).unwrap_or(i64::MAX);
        // The difference of two that count failures before a success.
        one().saturating_sub(one())
    }
}

fn make(path: &Path) -> io::Result<Key> {
    let mut secret = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let temporary = path.with_extension("tmp");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private(&temporary)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    RealVfs.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(Key::of(secret))
}

/// A new file that only its owner reads.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That counts are as probable as they should be: the chi-square statistic, which is nearly normal for many cells.
    fn is_as_told(draws: &[i64], epsilon: f64) {
        let count = draws.len() as f64;
        let ratio = (-epsilon).exp();
        let probability = |n: i64| (1.0 - ratio) / (1.0 + ratio) * ratio.powi(i32::try_from(n.abs()).expect("small"));
        // Cells of which at least ten are expected; the rest is one more at each end.
        let last = (0..).take_while(|n| probability(*n) * count >= 10.0).last().expect("some");
        let tail = ratio.powi(i32::try_from(last + 1).expect("small")) / (1.0 + ratio);
        let expected = |cell: i64| if cell.abs() > last { tail } else { probability(cell) };
        let (mut statistic, mut cells) = (0.0, 0.0);
        for cell in -last - 1..=last + 1 {
            let seen = draws.iter().filter(|draw| (**draw).clamp(-last - 1, last + 1) == cell).count() as f64;
            let expected = expected(cell) * count;
            statistic += (seen - expected).powi(2) / expected;
            cells += 1.0;
        }
        let freedom: f64 = cells - 1.0;
        // Wilson and Hilferty: 2.33 is one in a hundred. The draws are the same in each run.
        let normal = ((statistic / freedom).cbrt() - (1.0 - 2.0 / (9.0 * freedom))) / (2.0 / (9.0 * freedom)).sqrt();
        assert!(normal < 2.33, "epsilon {epsilon}: chi-square {statistic} of {freedom}");
    }

    #[test]
    fn noise_is_two_sided_geometric() {
        let key = Key::of([3; 32]);
        for (epsilon, draws) in [(0.02, 20_000u32), (0.1, 100_000), (1.0, 20_000)] {
            let draws: Vec<i64> = (0..draws).map(|n| key.draw("test", &[&n.to_le_bytes()], epsilon)).collect();
            is_as_told(&draws, epsilon);
        }
    }

    #[test]
    fn the_same_is_drawn_for_the_same_and_parts_are_told_apart() {
        let (key, other) = (Key::of([3; 32]), Key::of([4; 32]));
        let draw = |key: &Key, parts: &[&[u8]]| key.draw("test", parts, 0.001);
        assert_eq!(draw(&key, &[b"ab", b"c"]), draw(&key, &[b"ab", b"c"]));
        assert_ne!(draw(&key, &[b"ab", b"c"]), draw(&key, &[b"a", b"bc"]));
        assert_ne!(draw(&key, &[b"ab", b"c"]), draw(&other, &[b"ab", b"c"]));
        assert_eq!(format!("{key:?}"), "Key");
    }

    #[test]
    fn the_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        assert_eq!(Key::open(&path, false).expect_err("missing").kind, Kind::Corrupt);
        let key = Key::open(&path, true).expect("made");
        let again = Key::open(&path, false).expect("read");
        assert_eq!(key.seal("x", &[]), again.seal("x", &[]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&path, b"short").expect("written");
        let refused = Key::open(&path, true).expect_err("damaged");
        assert!(refused.kind == Kind::Corrupt && refused.detail.contains("key"), "{refused:?}");
    }
}
