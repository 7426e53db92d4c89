//! Networks that peers may come from: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network of IP addresses, for [`ServerBuilder::allow`](super::ServerBuilder::allow).
///
/// ```
/// use layshaft::gearman::Network;
///
/// let network: Network = "10.1.0.0/16".parse().unwrap();
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("10.2.0.1".parse().unwrap()));
/// assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that its addresses share.
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError {
    text: String,
    why: &'static str,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no network: {}; write an address, or one like 10.0.0.0/8", self.text, self.why)
    }
}

impl Error for NetworkError {}

impl Network {
    /// Whether an address is in it. One of version 4 that is written as one of version 6 is one of version 4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let differ = mine.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let differ = mine.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let wrong = |why| NetworkError { text: text.to_owned(), why };
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong("it begins with no IP address"))?;
        let Some(bits) = bits else { return Ok(address.into()) };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits =
            bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| wrong("the number of bits is wrong"))?;
        let network = Network { address, bits };
        // A slip of the pen would let in others than were meant.
        let first = match address {
            IpAddr::V4(address) => address.to_bits().checked_shl(u32::from(bits)).unwrap_or(0) == 0,
            IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(bits)).unwrap_or(0) == 0,
        };
        if first { Ok(network) } else { Err(wrong("the address has bits beyond those of the network")) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("192.168.1.128/25", "192.168.1.128", "192.168.1.127"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in
            ["", "a", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.1/8", "::/129", "::1/64", "10.0.0.0/8/8"]
        {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("is no network: "), "{error}");
        }
    }
}
