//! Rates as people write them: `20MB/s`, `512KiB/s`.

use super::defaults;
use super::size::Size;
use serde::de::{self, Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;

/// Bytes per second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rate(pub u64);

/// Text that is no rate: the input, and the way out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a rate in bytes; write 20MB/s or 512KiB/s (100 Mbit/s is 12.5MB/s)")]
pub struct BadRate(String);

impl Rate {
    /// In bytes per second, where it is not too little for a limit, which is `called` so.
    ///
    /// # Errors
    /// It is, in words.
    pub fn of_a_limit(self, called: &str) -> Result<u64, String> {
        match self.0 < defaults::RATE_LIMIT_MIN {
            true => Err(format!("{called} {self} is less than {}; give more", Rate(defaults::RATE_LIMIT_MIN))),
            false => Ok(self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(input: &str) -> Result<Rate, BadRate> {
        let bad = || BadRate(input.to_owned());
        let size = input.trim().strip_suffix("/s").ok_or_else(bad)?;
        size.parse::<Size>().map(|size| Rate(size.0)).map_err(|_| bad())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size(self.0))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sizes_a_second_and_others_are_refused_with_the_way_out() {
        for (text, bytes) in [("20MB/s", 20_000_000), (" 512 KiB/s ", 512 << 10), ("1.5M/s", 3 << 19)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate(bytes));
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for text in ["", "20MB", "20Mbit/s", "fast", "/s", "-1MB/s", "20 MB/h"] {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert_eq!(
                error,
                format!("{text:?} is not a rate in bytes; write 20MB/s or 512KiB/s (100 Mbit/s is 12.5MB/s)")
            );
        }
    }
}
