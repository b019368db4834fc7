//! Which addresses are believed: the lists `forwarded_allow_ips` and `proxy_allow_ips`.
//!
//! Not a resolver: entries are addresses, networks in CIDR form, or `*`.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// A parsed list. IPv4-mapped IPv6 addresses are their IPv4 selves, in the list and in the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddrList {
    any: bool,
    networks: Vec<Network>,
}

/// An address family's value and mask; a single address has the full mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    is_v4: bool,
    bits: u128,
    mask: u128,
}

impl AddrList {
    /// Errors: a sentence that names the entry which is no address, no network, or a network with host bits set.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<AddrList, String> {
        let mut list = AddrList::default();
        for entry in entries {
            let entry = entry.as_ref().trim();
            match entry {
                "" => {}
                "*" => list.any = true,
                _ => list.networks.push(Network::parse(entry)?),
            }
        }
        Ok(list)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        if self.any {
            return true;
        }
        let (is_v4, bits, _) = parts(address);
        self.networks
            .iter()
            .any(|network| network.is_v4 == is_v4 && bits & network.mask == network.bits)
    }

    /// Does the list hold `*`?
    pub fn allows_all(&self) -> bool {
        self.any
    }
}

impl Network {
    fn parse(entry: &str) -> Result<Network, String> {
        let wrong =
            || format!("'{entry}' does not appear to be an IPv4 or IPv6 address or network");
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (is_v4, bits, mapped) = parts(address);
        let width: u32 = if is_v4 { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(text) => {
                let digits =
                    !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
                let written: u32 = if digits {
                    text.parse().map_err(|_| wrong())?
                } else {
                    return Err(wrong());
                };
                let written = if mapped {
                    written.checked_sub(96).ok_or_else(wrong)?
                } else {
                    written
                };
                if written > width {
                    return Err(wrong());
                }
                written
            }
        };
        let mask = if prefix == 0 {
            0
        } else {
            (u128::MAX << (width - prefix)) & (u128::MAX >> (128 - width))
        };
        if bits & !mask != 0 {
            return Err(format!("{entry} has host bits set"));
        }
        Ok(Network { is_v4, bits, mask })
    }
}

/// (is IPv4, value, was an IPv4-mapped IPv6 address)
fn parts(address: IpAddr) -> (bool, u128, bool) {
    match address {
        IpAddr::V4(v4) => (true, u128::from(u32::from(v4)), false),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => (true, u128::from(u32::from(v4)), true),
            None => (false, u128::from(v6), false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(entries: &[&str], address: &str) -> bool {
        AddrList::parse(entries)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_networks_and_star_are_matched() {
        let table: [(&[&str], &str, bool); 14] = [
            (&["127.0.0.1", "::1"], "127.0.0.1", true),
            (&["127.0.0.1", "::1"], "::1", true),
            (&["127.0.0.1", "::1"], "127.0.0.2", false),
            (&["10.0.0.0/8"], "10.255.0.1", true),
            (&["10.0.0.0/8"], "11.0.0.0", false),
            (&["0.0.0.0/0"], "203.0.113.9", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["2001:db8::/32"], "2001:db8:1::1", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["::/0"], "2001:db8::1", true),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
            (&["::ffff:10.0.0.0/104"], "10.1.2.3", true),
            (&["*"], "2001:db8::1", true),
            (&[], "127.0.0.1", false),
        ];
        for (entries, address, expected) in table {
            assert_eq!(
                contains(entries, address),
                expected,
                "{entries:?} {address}"
            );
        }
    }

    #[test]
    fn entries_that_are_no_addresses_are_refused() {
        for entry in [
            "localhost",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "1.2.3",
            "::/129",
            "1.2.3.4/8/8",
        ] {
            assert!(AddrList::parse(&[entry]).is_err(), "{entry}");
        }
    }
}
