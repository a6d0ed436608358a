//! Names of KV cache strategies in the authors' code.

use ruminate_shaders::attention::cache::{KvShare, Lookup};

use crate::error::Error;

/// Keys that positions offer to rows at other steps, and steps that share keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvSharing {
    /// Keys that a position offers to rows at steps that it has not stored.
    pub lookup: Lookup,
    /// Steps that share keys and values.
    pub share: KvShare,
}

const KNOWN: &str = "full, skip, latest, available or always-last (each also with the authors' suffix, as in latest-m4), compress-sN or compress-anchor, or one of each joined by a hyphen";

impl KvSharing {
    /// Parses a name of the authors' code, such as `latest-m4-compress-s16`, for a core block of `layers` layers. N in `compress-sN` counts slots of layers;
    /// here it must be a whole number of steps. Without a lookup rule, sharing uses the latest step; the authors' code fails in that case after an early exit.
    ///
    /// # Errors
    /// [`Error::Option`] for other names, and for names that would mix keys of different layers.
    pub fn parse(name: &str, layers: u32) -> Result<Self, Error> {
        let wrong = |allowed| Error::Option { name: "KV lookup", value: name.to_owned(), allowed };
        let other_layers = |allowed| {
            let value = format!("{name}, where the core block has {layers} layers");
            Error::Option { name: "KV lookup", value, allowed }
        };
        let (lookup, share) = match name.find("compress-") {
            Some(at) => (name[..at].trim_end_matches('-'), Some(&name[at + "compress-".len()..])),
            None => (name, None),
        };
        let (lookup, modulus) = lookup.split_once("-m").map_or((lookup, None), |(rule, n)| (rule, Some(n)));
        if modulus.is_some_and(|n| n.parse() != Ok(layers)) {
            return Err(other_layers(
                "-mN with N equal to the number of layers of the model's core block, since a layer cannot use another layer's keys",
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
                    "compress-sN: with compress-rN, different layers overwrite each other's keys and values",
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
