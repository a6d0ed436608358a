//! Settings of the hub, from the environment variables of Python's `huggingface_hub`.

use std::path::PathBuf;
use std::time::Duration;

use crate::hub::environment::{self, NoHome, Variables};

/// Maximum read timeout in seconds: a day.
const LONGEST: u64 = 24 * 60 * 60;

/// Maximum length of the file with the token, in bytes.
const MOST_TOKEN: u64 = 64 << 10;

/// Settings for downloads.
pub(super) struct Settings {
    /// Address of the hub or of a mirror, without a trailing slash.
    pub(super) endpoint: String,
    /// Access token, if one is set.
    pub(super) token: Option<Token>,
    /// Folder of the cache.
    pub(super) cache: PathBuf,
    /// Read timeout of a connection.
    pub(super) timeout: Duration,
    /// Whether downloads are forbidden.
    pub(super) offline: bool,
}

/// Access token for private and gated models.
pub(super) struct Token {
    /// Secret value.
    pub(super) value: String,
    /// Variable or file that holds it, for messages.
    pub(super) origin: String,
}

impl Settings {
    /// Reads the variables; `cache` overrides them.
    ///
    /// # Errors
    /// If the folder of the cache is unknown.
    pub(super) fn read(variables: Variables<'_>, cache: Option<PathBuf>) -> Result<Self, NoHome> {
        let text = |name: &str| environment::set(variables, name).and_then(|value| value.into_string().ok());
        let yes = |name: &str| {
            text(name).is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let seconds: Option<u64> = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse().ok());
        let seconds = seconds.filter(|&value| value > 0).map(|value| value.min(LONGEST));
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: if yes("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { token(variables) },
            cache: cache.map_or_else(|| environment::cache(variables), Ok)?,
            timeout: Duration::from_secs(seconds.unwrap_or(10)),
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
        })
    }
}

/// Token from the environment, else the one stored by `hf auth login`.
fn token(variables: Variables<'_>) -> Option<Token> {
    let clean =
        |text: &str| Some(text.trim_start_matches('\u{feff}').trim().to_owned()).filter(|text| !text.is_empty());
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        let value = environment::set(variables, name).and_then(|value| clean(&value.to_string_lossy()));
        if let Some(value) = value {
            return Some(Token { value, origin: name.to_owned() });
        }
    }
    let stored = || environment::home(variables).ok().map(|home| home.join("token"));
    let path = environment::path(variables, "HF_TOKEN_PATH").or_else(stored)?;
    // A pipe would wait for its writer, and a device may never end.
    std::fs::metadata(&path).ok().filter(|file| file.is_file() && file.len() <= MOST_TOKEN)?;
    let value = clean(&std::fs::read_to_string(&path).ok()?)?;
    Some(Token { value, origin: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::Settings;

    fn read(set: &[(&str, &str)]) -> Settings {
        let found = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Settings::read(&found, Some("cache".into())).expect("a cache is named")
    }

    fn token(set: &[(&str, &str)]) -> Option<String> {
        read(set).token.map(|token| token.value)
    }

    #[test]
    fn token_variable_overrides_stored_token() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let folder = home.path().to_str().expect("a path in UTF-8");
        assert_eq!(token(&[("HF_HOME", folder)]), None);
        std::fs::write(home.path().join("token"), "hf_file\n").expect("a file");
        assert_eq!(token(&[("HF_HOME", folder)]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HOME", folder), ("HF_TOKEN", " hf_set\n")]).as_deref(), Some("hf_set"));
        assert_eq!(token(&[("HF_HOME", folder), ("HF_TOKEN", " ")]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HOME", folder), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let other = format!("{folder}/other");
        std::fs::write(&other, "hf_other").expect("a file");
        assert_eq!(token(&[("HF_HOME", folder), ("HF_TOKEN_PATH", &other)]).as_deref(), Some("hf_other"));
        std::fs::write(&other, "\u{feff}hf_other\r\n").expect("a file");
        assert_eq!(token(&[("HF_TOKEN_PATH", &other)]).as_deref(), Some("hf_other"));
        // Neither is a file, and the device never ends.
        assert_eq!(token(&[("HF_TOKEN_PATH", folder)]), None);
        assert!(!cfg!(unix) || token(&[("HF_TOKEN_PATH", "/dev/zero")]).is_none());
    }

    #[test]
    fn addresses_and_switches_parse_as_in_python() {
        assert_eq!(read(&[("HF_ENDPOINT", "https://mirror/hf//")]).endpoint, "https://mirror/hf");
        assert!(read(&[("HF_HUB_OFFLINE", "true")]).offline && read(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(read(&[("HF_HUB_DOWNLOAD_TIMEOUT", "3")]).timeout.as_secs(), 3);
        let longest = u64::MAX.to_string();
        assert_eq!(read(&[("HF_HUB_DOWNLOAD_TIMEOUT", &longest)]).timeout.as_secs(), 86_400);
        assert_eq!(read(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).timeout.as_secs(), 10);
    }
}
