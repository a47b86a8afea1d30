//! How our data files are called, so that they are told from those of other writers.
//!
//! ```text
//! day=2024-05-01/part-00000000000000000042-9f86d081884c7d65.parquet          rows of epoch 42
//! day=2024-05-01/part-00000000000000000042-60303ae22b998861-merged.parquet   files merged when 42 was the newest epoch
//! ```

/// What the name of one of our files says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// The epoch that wrote it; of a merged file, the newest epoch in the table by then.
    pub(super) epoch: u64,
    pub(super) merged: bool,
}

/// A new name, of a number that no other file has.
pub(super) fn new_name(day: &str, FileName { epoch, merged }: FileName, number: u64) -> String {
    let suffix = if merged { "-merged" } else { "" };
    format!("day={day}/part-{epoch:020}-{number:016x}{suffix}.parquet")
}

/// Reads a path within a table; `None` if the file is not ours.
pub(super) fn parse(path: &str) -> Option<FileName> {
    let (folder, name) = path.split_once('/')?;
    folder.strip_prefix("day=")?;
    let name = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
    let (epoch, rest) = name.split_once('-')?;
    let (number, merged) = match rest.strip_suffix("-merged") {
        Some(number) => (number, true),
        None => (rest, false),
    };
    let is_number = epoch.len() == 20 && epoch.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = number.len() == 16 && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_number && is_hex).then(|| epoch.parse().ok()).flatten().map(|epoch| FileName { epoch, merged })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_were_made_of_and_others_are_not_ours() {
        for made in [FileName { epoch: 42, merged: false }, FileName { epoch: u64::MAX, merged: true }] {
            assert_eq!(parse(&new_name("2024-05-01", made, made.epoch ^ 0x9f86)), Some(made));
        }
        let foreign = [
            "part-00000-2b1b1d0a-7a0c-4f0c-9a2e-6e3b1c1f2a3b-c000.snappy.parquet",
            "day=2024-05-01/part-00000-2b1b1d0a-7a0c-4f0c-9a2e-6e3b1c1f2a3b-c000.snappy.parquet",
            "day=2024-05-01/part-00000000000000000042-9F86D081884C7D65.parquet",
            "day=2024-05-01/deeper/part-00000000000000000042-9f86d081884c7d65.parquet",
            "_delta_log/00000000000000000042.json",
        ];
        for path in foreign {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
