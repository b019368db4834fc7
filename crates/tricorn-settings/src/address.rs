//! Addresses and networks of trusted peers, as settings name them: `192.0.2.1`, `192.0.2.0/24`,
//! `192.0.2.0/255.255.255.0`, `2001:db8::/32`, `fe80::1%eth0`. Not a matcher: only says whether a text is one.
//! Invariant: accepts and refuses what Python's strict `ipaddress` accepts and refuses.
use std::net::{IpAddr, Ipv4Addr};

/// Why a text is not an address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotANetwork {
    /// It reads as neither.
    Unreadable,
    /// It names a network but sets bits of the host.
    HostBits,
}

/// Checks one address or network.
pub(crate) fn check_network(text: &str) -> Result<(), NotANetwork> {
    let Some((address, prefix)) = text.split_once('/') else {
        return parse_address(text).map(|_| ());
    };
    let (bits, width) = match parse_address(address)? {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let length = prefix_length(prefix, width)?;
    let host_bits = width - length;
    let mask = if host_bits == 128 {
        u128::MAX
    } else {
        (1u128 << host_bits) - 1
    };
    if bits & mask == 0 {
        Ok(())
    } else {
        Err(NotANetwork::HostBits)
    }
}

fn parse_address(text: &str) -> Result<IpAddr, NotANetwork> {
    let address = match text.split_once('%') {
        Some((address, zone))
            if !zone.is_empty() && !zone.contains('%') && address.contains(':') =>
        {
            address
        }
        Some(_) => return Err(NotANetwork::Unreadable),
        None => text,
    };
    address.parse().map_err(|_| NotANetwork::Unreadable)
}

/// The prefix length of `/24`, or for IPv4 of a netmask or host mask written out.
fn prefix_length(text: &str, width: u32) -> Result<u32, NotANetwork> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .filter(|length| *length <= width)
            .ok_or(NotANetwork::Unreadable);
    }
    if width != 32 {
        return Err(NotANetwork::Unreadable);
    }
    let mask = text
        .parse::<Ipv4Addr>()
        .map_err(|_| NotANetwork::Unreadable)?
        .to_bits();
    if mask.leading_ones() + mask.trailing_zeros() >= 32 {
        Ok(mask.leading_ones())
    } else if mask.leading_zeros() + mask.trailing_ones() == 32 {
        Ok(mask.leading_zeros())
    } else {
        Err(NotANetwork::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_accepted() {
        for text in [
            "192.0.2.1",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.0.2.1/32",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/0.255.255.255",
            "0.0.0.0/0.0.0.0",
            "::1",
            "::/0",
            "2001:db8::/32",
            "fe80::1%eth0",
        ] {
            assert_eq!(check_network(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "foo",
            "192.0.2",
            "01.2.3.4",
            "192.0.2.1/33",
            "::1/129",
            "::1/ffff::",
            "10.0.0.0/255.0.255.0",
            "192.0.2.1%eth0",
            "fe80::1%",
            "192.0.2.1/",
        ] {
            assert_eq!(check_network(text), Err(NotANetwork::Unreadable), "{text}");
        }
    }

    #[test]
    fn host_bits_in_a_network_are_refused() {
        for text in ["10.0.0.1/8", "::1/64", "::1/0", "10.0.0.1/255.0.0.0"] {
            assert_eq!(check_network(text), Err(NotANetwork::HostBits), "{text}");
        }
    }
}
