//! Today's date for templates: `strftime_now`, as Hugging Face's templates call it.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// The current time in UTC: the standard library knows no time zones. An unknown directive is an error that names it.
pub(super) fn strftime_now(format: &str) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
}

/// Formats a number of seconds since 1970 by the directives of C's `strftime` that templates use; `%-` drops leading zeros.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = (days + 4) % 7;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let of_year = days + 1 - days_before(year);
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        let bare = directive == Some('-');
        if bare {
            directive = rest.next();
        }
        let (number, width) = match directive {
            Some('Y') => (year, 4),
            Some('y') => (year % 100, 2),
            Some('m') => (month, 2),
            Some('d') => (day, 2),
            Some('H') => (hour, 2),
            Some('I') => ((hour + 11) % 12 + 1, 2),
            Some('M') => (minute, 2),
            Some('S') => (second % 60, 2),
            Some('j') => (of_year, 3),
            Some(other) => {
                out.push_str(match other {
                    'B' => MONTHS[month as usize - 1],
                    'b' => &MONTHS[month as usize - 1][..3],
                    'A' => DAYS[weekday as usize],
                    'a' => &DAYS[weekday as usize][..3],
                    'p' if hour < 12 => "AM",
                    'p' => "PM",
                    'Z' => "UTC",
                    '%' => "%",
                    _ => return Err(format!("strftime_now does not know %{other}")),
                });
                continue;
            }
            None => return Err("strftime_now: the format ends with %".to_owned()),
        };
        let width = if bare { 1 } else { width };
        write!(out, "{number:0width$}").map_err(|error| error.to_string())?;
    }
    Ok(out)
}

/// Year, month and day of a number of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // 366 days a year can only come out too early; the true year is at most a few steps on.
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

/// Days from 1970 to the first of January of a year.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_agree_with_c() {
        let line = |seconds| strftime("%a %A %-d %d %b %B %Y %y %j %H:%M:%S %I%p %%", seconds).unwrap();
        // Printed by `date -u -d @N`.
        assert_eq!(line(0), "Thu Thursday 1 01 Jan January 1970 70 001 00:00:00 12AM %");
        assert_eq!(line(951_782_400), "Tue Tuesday 29 29 Feb February 2000 00 060 00:00:00 12AM %");
        assert_eq!(line(1_735_689_599), "Tue Tuesday 31 31 Dec December 2024 24 366 23:59:59 11PM %");
        assert_eq!(line(4_107_542_400), "Mon Monday 1 01 Mar March 2100 00 060 00:00:00 12AM %");
    }

    #[test]
    fn an_unknown_directive_is_named() {
        assert_eq!(strftime("%Q", 0).unwrap_err(), "strftime_now does not know %Q");
        assert!(strftime("100%", 0).is_err());
    }
}
