//! KV lookup and sharing rules, by the names of the authors' code.

use ruminate_shaders::attention::cache::{KvShare, Lookup};

use crate::error::Error;

/// KV lookup rule of rows at other steps, and the sharing of keys and values between steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvSharing {
    /// Keys and values that a position provides to rows at steps that it has not stored.
    pub lookup: Lookup,
    /// Steps that share keys and values.
    pub share: KvShare,
}

const KNOWN: &str = "full, skip, latest, available or always-last (each also with the authors' suffix, as in latest-m4), compress-sN or compress-anchor, or one of each joined by a hyphen";

impl KvSharing {
    /// Parses a name of the authors' code, such as `latest-m4-compress-s16`, for a core block of `layers` layers. Their N in `compress-sN` counts slots of
    /// layers and must be a whole number of steps here. Sharing without a lookup rule looks up the latest step; the authors' code fails in this case after
    /// an early exit.
    ///
    /// # Errors
    /// [`Error::Option`] for unknown names, and for names that would mix up layers.
    pub fn parse(name: &str, layers: u32) -> Result<Self, Error> {
        let wrong = |allowed| Error::Option { name: "KV lookup", value: name.to_owned(), allowed };
        let other_layers = |allowed| {
            let value = format!("{name}, but the core block has {layers} layers");
            Error::Option { name: "KV lookup", value, allowed }
        };
        let (lookup, share) = match name.find("compress-") {
            Some(at) => (name[..at].trim_end_matches('-'), Some(&name[at + "compress-".len()..])),
            None => (name, None),
        };
        let (lookup, modulus) = lookup.split_once("-m").map_or((lookup, None), |(rule, n)| (rule, Some(n)));
        if modulus.is_some_and(|n| n.parse() != Ok(layers)) {
            return Err(other_layers(
                "-mN with the number of the core block's layers, because a layer can use only its own keys",
            ));
        }
        let lookup = match lookup {
            "full" | "skip" => Lookup::Full,
            "latest" | "available" => Lookup::Latest,
            "always-last" => Lookup::AlwaysLast,
            "" if share.is_some() => Lookup::Latest,
            _ => return Err(wrong(KNOWN)),
        };
        let share = match share {
            None => KvShare::None,
            Some("anchor") => KvShare::Anchor,
            Some(share) if share.starts_with('r') => {
                return Err(wrong(
                    "compress-sN; with compress-rN, layers would overwrite each other's keys and values",
                ));
            }
            Some(share) => {
                let slots = share.strip_prefix('s').and_then(|n| n.parse::<u32>().ok()).ok_or_else(|| wrong(KNOWN))?;
                if slots == 0 || !slots.is_multiple_of(layers) {
                    return Err(other_layers(
                        "compress-sN with N a multiple of the core block's layers, so that each layer has its own slots",
                    ));
                }
                KvShare::Steps(slots / layers)
            }
        };
        Ok(Self { lookup, share })
    }
}
