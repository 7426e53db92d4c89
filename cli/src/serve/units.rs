//! Values of settings, which are written alike on the command line, in the environment and in the configuration file.

use crate::remote::time;
use layshaft::gearman::{Network, NetworkError};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A time: `100us`, `500ms`, `90s`, `5m`, or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A time that need not be: `off` and `never` are none, and so is what is below 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

/// A number of bytes: `64MiB`, `1G`, or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// The mode of a file, in octal digits: `0660`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

/// A number, or `all`, or what is below 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

/// Where peers may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed(pub(crate) Network);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host, and a port if one was said.
    Tcp(String, Option<u16>),
    Unix(PathBuf),
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        time::duration(text).map(Time)
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Allowed).map_err(|error: NetworkError| error.to_string())
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_below_0 = text.parse().is_ok_and(|number: f64| number < 0.0);
        if is_below_0 || matches!(text, "off" | "never") {
            return Ok(Limit(None));
        }
        time::duration(text).map(|time| Limit(Some(time)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size such as 65536, 512KiB, 64MiB or 4GiB");
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let shift = match unit.trim().trim_end_matches(['b', 'B']).trim_end_matches('i') {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            "t" | "T" => 40,
            _ => return Err(wrong()),
        };
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Size).ok_or_else(wrong)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8);
        mode.ok().filter(|mode| *mode <= 0o777).map(Mode).ok_or_else(|| format!("{text:?} is no mode such as 0660"))
    }
}

/// Only text: a number would be read as decimal.
impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Count(usize::MAX));
        }
        let number: i64 = text.parse().map_err(|_| format!("{text:?} is no number, nor `all`"))?;
        Ok(Count(usize::try_from(number).unwrap_or(usize::MAX)))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.contains('/').then_some(text)) {
            return Ok(Place::Unix(path.into()));
        }
        let wrong =
            || format!("{text:?} is no address such as 127.0.0.1:4730, [::1]:4730, localhost or unix:/run/x.sock");
        let (host, port) = match text.rsplit_once(':') {
            // Of version 6, without a port: more than one colon, and no brackets.
            Some((before, _)) if before.contains(':') && !text.contains('[') => (text, None),
            Some((before, _)) if before.contains('[') && !before.ends_with(']') => (text, None),
            Some((before, port)) => (before, Some(port)),
            None => (text, None),
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Place::Tcp(host.to_owned(), port))
    }
}

/// Reads text and numbers alike.
struct Either<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! either {
    ($($type:ty)*) => {
        $(impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Either(PhantomData))
            }
        })*
    };
}
either!(Time Limit Size Count Place Allowed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| text.parse().map(|Size(size)| size);
        assert_eq!(["0", "7B", "2k", "64MiB", "1GB"].map(size), [0, 7, 2048, 64 << 20, 1 << 30].map(Ok));
        for wrong in ["", "MiB", "1.5k", "3x", "99999999999T", "-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(
            ["0660", "0o600", "777", "0"].map(|text| text.parse()),
            [0o660, 0o600, 0o777, 0].map(|n| Ok(Mode(n)))
        );
        assert!(["", "8", "1000", "rw", "-1"].iter().all(|wrong| wrong.parse::<Mode>().is_err()));
    }

    #[test]
    fn counts_and_limits_need_not_be() {
        assert_eq!(["3", "all", "-1"].map(|text| text.parse()), [3, usize::MAX, usize::MAX].map(|n| Ok(Count(n))));
        let limits = ["1.5", "off", "never", "-1", "0"].map(|text| text.parse());
        let (time, zero) = (Some(Duration::from_millis(1500)), Some(Duration::ZERO));
        assert_eq!(limits, [time, None, None, None, zero].map(|limit| Ok(Limit(limit))));
    }

    #[test]
    fn places_are_hosts_or_paths() {
        let tcp = |host: &str, port| Ok(Place::Tcp(host.to_owned(), port));
        assert_eq!("127.0.0.1:0".parse(), tcp("127.0.0.1", Some(0)));
        assert_eq!("localhost".parse(), tcp("localhost", None));
        assert_eq!("::1".parse(), tcp("::1", None));
        assert_eq!("[::1]".parse(), tcp("::1", None));
        assert_eq!("[::1]:7".parse(), tcp("::1", Some(7)));
        assert_eq!("unix:a.sock".parse(), Ok(Place::Unix("a.sock".into())));
        assert_eq!("/run/a".parse(), Ok(Place::Unix("/run/a".into())));
        for wrong in ["", ":1", "a:b", "a:65536", "a b:1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
