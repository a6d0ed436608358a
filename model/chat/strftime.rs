//! Current date for templates: Hugging Face's `strftime_now`.

use ruminate_engine::clock::{SystemTime, UNIX_EPOCH};
use std::fmt::Write;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats the current time in UTC, because the standard library has no time zones. An error names an unknown directive.
pub(super) fn strftime_now(format: &str) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    strftime(format, u64::try_from(now).unwrap_or(0))
}

/// Formats a number of microseconds since 1970 with the directives of C's `strftime`, as in Python and the C locale. Flags before a directive: `-` for no
/// padding, `_` for blanks, `0` for zeros, `^` for upper case, `#` for the opposite case.
fn strftime(format: &str, micros: u64) -> Result<String, String> {
    let seconds = micros / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = (days + 4) % 7;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let twelve = (hour + 11) % 12 + 1;
    let of_year = days - days_before(year);
    // ISO 8601: a week belongs to the year that contains its Thursday.
    let thursday = days + 3 - (weekday + 6) % 7;
    let (week_year, ..) = civil(thursday);
    let names = |all: &[&str], place: u64, short: bool| {
        let name = all[place as usize];
        if short { name[..3].to_owned() } else { name.to_owned() }
    };
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        let mut flags = Vec::new();
        while let Some(flag @ ('-' | '_' | '0' | '^' | '#')) = directive {
            flags.push(flag);
            directive = rest.next();
        }
        let directive = directive.ok_or("strftime_now: the format ends with %")?;
        let whole = match directive {
            'c' => "%a %b %e %H:%M:%S %Y",
            'D' | 'x' => "%m/%d/%y",
            'F' => "%Y-%m-%d",
            'R' => "%H:%M",
            'r' => "%I:%M:%S %p",
            'T' | 'X' => "%H:%M:%S",
            _ => "",
        };
        let (number, width, fill) = match directive {
            'Y' => (year, 4, '0'),
            'G' => (week_year, 4, '0'),
            'C' => (year / 100, 2, '0'),
            'y' => (year % 100, 2, '0'),
            'g' => (week_year % 100, 2, '0'),
            'm' => (month, 2, '0'),
            'd' => (day, 2, '0'),
            'e' => (day, 2, ' '),
            'H' => (hour, 2, '0'),
            'k' => (hour, 2, ' '),
            'I' => (twelve, 2, '0'),
            'l' => (twelve, 2, ' '),
            'M' => (minute, 2, '0'),
            'S' => (second % 60, 2, '0'),
            'f' => (micros % 1_000_000, 6, '0'),
            'j' => (of_year + 1, 3, '0'),
            'U' => ((of_year + 7 - weekday) / 7, 2, '0'),
            'W' => ((of_year + 7 - (weekday + 6) % 7) / 7, 2, '0'),
            'V' => ((thursday - days_before(week_year)) / 7 + 1, 2, '0'),
            'u' => ((weekday + 6) % 7 + 1, 1, '0'),
            'w' => (weekday, 1, '0'),
            's' => (seconds, 1, '0'),
            _ => {
                let text = match directive {
                    'B' => names(&MONTHS, month - 1, false),
                    'b' | 'h' => names(&MONTHS, month - 1, true),
                    'A' => names(&DAYS, weekday, false),
                    'a' => names(&DAYS, weekday, true),
                    'p' => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
                    'P' => (if hour < 12 { "am" } else { "pm" }).to_owned(),
                    'n' => "\n".to_owned(),
                    't' => "\t".to_owned(),
                    '%' => "%".to_owned(),
                    // Python's `datetime.now()` has no zone.
                    'Z' | 'z' => String::new(),
                    _ if !whole.is_empty() => strftime(whole, micros)?,
                    other => return Err(format!("unknown directive %{other} in strftime_now")),
                };
                out.push_str(&match (flags.contains(&'^'), flags.contains(&'#'), directive) {
                    (_, true, 'p') => text.to_lowercase(),
                    (true, ..) | (_, true, _) => text.to_uppercase(),
                    _ => text,
                });
                continue;
            }
        };
        // The last padding flag wins.
        let padding = flags.iter().rev().find(|flag| matches!(flag, '-' | '_' | '0'));
        let _ = match padding.unwrap_or(&fill) {
            '-' => write!(out, "{number}"),
            '0' => write!(out, "{number:0width$}"),
            _ => write!(out, "{number:width$}"),
        };
    }
    Ok(out)
}

/// Year, month and day for a number of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Dividing by 366 never gives a later year; the true one is at most a few years later.
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let leap = days_before(year + 1) - days_before(year) == 366;
    let mut left = days - days_before(year);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(lengths) {
        if left < length {
            return (year, month, left + 1);
        }
        left -= length;
    }
    (year, 12, 31)
}

/// Days from January 1, 1970 to January 1 of a year.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_agree_with_c() {
        let line =
            |seconds: u64| strftime("%a %A %-d %d %b %B %Y %y %j %H:%M:%S %I%p %%", seconds * 1_000_000).unwrap();
        // Printed by `date -u -d @N`.
        assert_eq!(line(0), "Thu Thursday 1 01 Jan January 1970 70 001 00:00:00 12AM %");
        assert_eq!(line(951_782_400), "Tue Tuesday 29 29 Feb February 2000 00 060 00:00:00 12AM %");
        assert_eq!(line(1_735_689_599), "Tue Tuesday 31 31 Dec December 2024 24 366 23:59:59 11PM %");
        assert_eq!(line(4_107_542_400), "Mon Monday 1 01 Mar March 2100 00 060 00:00:00 12AM %");
    }

    #[test]
    fn every_directive_agrees_with_c() {
        let line = |seconds: u64| {
            let format = "%F|%D|%e|%T|%R|%c|%x|%X|%u|%w|%U|%W|%V|%G|%g|%C|%h|%r|%s|%P|%k|%l|%_d|%^a|%0e|%-j|%^B|%#p";
            strftime(format, seconds * 1_000_000).unwrap()
        };
        // Printed by `LC_ALL=C date -u -d @N`.
        assert_eq!(
            line(1_735_689_599),
            "2024-12-31|12/31/24|31|23:59:59|23:59|Tue Dec 31 23:59:59 2024|12/31/24|23:59:59|2|2|52|53|01|2025|25|20|Dec|11:59:59 PM|1735689599|pm|23|11|31|TUE|31|366|DECEMBER|pm"
        );
        assert_eq!(
            line(1_609_477_200),
            "2021-01-01|01/01/21| 1|05:00:00|05:00|Fri Jan  1 05:00:00 2021|01/01/21|05:00:00|5|5|00|00|53|2020|20|20|Jan|05:00:00 AM|1609477200|am| 5| 5| 1|FRI|01|1|JANUARY|am"
        );
        assert_eq!(strftime("%f", 1_000_042).unwrap(), "000042");
    }

    #[test]
    fn an_unknown_directive_is_named() {
        assert_eq!(strftime("%Q", 0).unwrap_err(), "unknown directive %Q in strftime_now");
        assert!(strftime("100%", 0).is_err());
    }
}
