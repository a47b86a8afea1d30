//! Time zones by name, from the time zone database that comes with the program: no machine needs one of its own, and
//! all of them agree.

use engine::audience::suggest::closest;
use engine::catalog::Zone;
use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;

/// The end of 2099: clocks after it are taken to show what they show then.
const END_SECONDS: i64 = 4_102_444_800;

/// The zone of a name such as `Asia/Shanghai`; upper and lower case do not matter.
///
/// # Errors
/// That there is none, and which may be meant.
pub fn zone(name: &str) -> Result<Zone, String> {
    let database = TimeZoneDatabase::bundled();
    let Ok(found) = database.get(name) else { return Err(unknown(&database, name)) };
    let mut shown = found.to_offset(Timestamp::UNIX_EPOCH).seconds();
    let first = shown;
    let mut changes = Vec::new();
    for change in found.following(Timestamp::UNIX_EPOCH) {
        let from = change.timestamp().as_second();
        if from >= END_SECONDS {
            break;
        }
        // Some changes are of the name only.
        if change.offset().seconds() != shown {
            shown = change.offset().seconds();
            changes.push((from, shown));
        }
    }
    Ok(Zone::new(found.iana_name().unwrap_or(name), first, changes))
}

fn unknown(database: &TimeZoneDatabase, name: &str) -> String {
    let names: Vec<String> = database.available().map(|known| known.as_str().to_owned()).collect();
    let city = name.trim().replace(' ', "_");
    let is_city = |known: &&String| known.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&city));
    let by_city = names.iter().find(is_city).map(String::as_str);
    match by_city.or_else(|| closest(name, names.iter().map(String::as_str))) {
        Some(near) => format!("unknown time zone `{name}`; did you mean `{near}`?"),
        None => format!("unknown time zone `{name}`; write one such as UTC, Asia/Shanghai or Europe/Berlin"),
    }
}

#[cfg(test)]
mod tests {
    use super::zone;

    /// Hours that the clocks are ahead of UTC.
    fn ahead(name: &str, seconds: i64) -> f64 {
        let zone = zone(name).expect("a zone");
        (zone.local(seconds * 1_000_000) / 1_000_000 - seconds) as f64 / 3600.0
    }

    #[test]
    fn clocks_show_what_they_showed() {
        let (summer_1988, winter_2026, summer_2026, summer_2099) =
            (584_409_600, 1_795_168_800, 1_782_000_000, 4_086_000_000);
        assert_eq!(ahead("UTC", winter_2026), 0.0);
        assert_eq!(ahead("asia/shanghai", winter_2026), 8.0);
        assert_eq!(ahead("Asia/Shanghai", summer_1988), 9.0, "it had daylight saving time then");
        assert_eq!(ahead("Europe/Berlin", winter_2026), 1.0);
        assert_eq!(ahead("Europe/Berlin", summer_2026), 2.0);
        assert_eq!(ahead("Europe/Berlin", summer_2099), 2.0);
        assert_eq!(ahead("Asia/Kolkata", 0), 5.5);
        assert_eq!(zone("asia/shanghai").map(|zone| zone.name), Ok("Asia/Shanghai".to_owned()));
        assert_eq!(zone("utc").map(|zone| zone.name), Ok("UTC".to_owned()));
    }

    #[test]
    fn unknown_ones_get_a_suggestion() {
        let refused = |name| zone(name).expect_err("no such zone");
        assert_eq!(refused("Asia/Shanghia"), "unknown time zone `Asia/Shanghia`; did you mean `Asia/Shanghai`?");
        assert_eq!(refused("shanghai"), "unknown time zone `shanghai`; did you mean `Asia/Shanghai`?");
        assert_eq!(refused("new york"), "unknown time zone `new york`; did you mean `America/New_York`?");
        let nowhere = "unknown time zone `+08:00`; write one such as UTC, Asia/Shanghai or Europe/Berlin";
        assert_eq!(refused("+08:00"), nowhere);
    }
}
