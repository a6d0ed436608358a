//! Formats of weights that are not read, so that messages can name them.

/// First bytes of files, and the format that begins with them.
const STARTS: [(&[u8], &str); 6] = [
    (b"GGUF", GGUF),
    (b"lmgg", GGUF),
    (b"tjgg", GGUF),
    (b"PK\x03\x04", PYTORCH),
    (b"\x80\x02", PYTORCH),
    (b"\x89HDF\r\n\x1a\n", KERAS),
];

/// Endings of names, and the format that has them.
const ENDINGS: [(&str, &str); 10] = [
    ("gguf", GGUF),
    ("ggml", GGUF),
    ("bin", PYTORCH),
    ("pt", PYTORCH),
    ("pth", PYTORCH),
    ("ckpt", PYTORCH),
    ("h5", KERAS),
    ("msgpack", "weights of Flax"),
    ("onnx", "a graph of ONNX"),
    ("npz", "arrays of NumPy"),
];

const GGUF: &str = "a GGUF file of llama.cpp";
const PYTORCH: &str = "a pickle of PyTorch";
const KERAS: &str = "an HDF5 file of Keras";

/// The format of a file by its first bytes, or else by its name; none if it is no known format of weights.
pub(crate) fn of(name: &str, start: &[u8]) -> Option<&'static str> {
    let begun = STARTS.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|(_, format)| *format);
    begun.or_else(|| by_name(name))
}

/// The format that a name stands for.
pub(crate) fn by_name(name: &str) -> Option<&'static str> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
}
