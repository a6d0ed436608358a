//! Unsupported weight formats, recognized so that messages can name them.

/// First bytes of files, with their format.
const STARTS: [(&[u8], &str); 6] = [
    (b"GGUF", GGUF),
    (b"lmgg", GGUF),
    (b"tjgg", GGUF),
    (b"PK\x03\x04", PYTORCH),
    (b"\x80\x02", PYTORCH),
    (b"\x89HDF\r\n\x1a\n", KERAS),
];

/// File name extensions, with their format.
const ENDINGS: [(&str, &str); 10] = [
    ("gguf", GGUF),
    ("ggml", GGUF),
    ("bin", PYTORCH),
    ("pt", PYTORCH),
    ("pth", PYTORCH),
    ("ckpt", PYTORCH),
    ("h5", KERAS),
    ("msgpack", "Flax weights"),
    ("onnx", "an ONNX graph"),
    ("npz", "NumPy arrays"),
];

const GGUF: &str = "a llama.cpp GGUF file";
const PYTORCH: &str = "a PyTorch pickle";
const KERAS: &str = "a Keras HDF5 file";

/// Format of a file by its first bytes, or else by its name; `None` if neither is that of a known weight format.
pub(crate) fn of(name: &str, start: &[u8]) -> Option<&'static str> {
    let begun = STARTS.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|(_, format)| *format);
    begun.or_else(|| by_name(name))
}

/// Format of a file by its name's extension.
pub(crate) fn by_name(name: &str) -> Option<&'static str> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
}
