//! Tokenizer and chat template: ids, decoded texts, rendered conversations.

use anyhow::Result;
use ruminate::{Message, Specials};

use super::Golden;
use super::fixture::numbers;

impl Golden {
    pub(super) fn text(&mut self) -> Result<()> {
        let section = self.fixture.value("/tokenizer").clone();
        for (i, entry) in section["texts"].as_array().into_iter().flatten().enumerate() {
            let text = entry["text"].as_str().unwrap_or_default();
            let tokenizer = self.model.tokenizer();
            let ids = tokenizer.encode(text, Specials::None)?;
            let special = tokenizer.encode(text, Specials::PostProcessor)?;
            let expected = numbers(&entry["ids"]);
            let decoded = [tokenizer.decode(&expected, false), tokenizer.decode(&expected, true)];
            let texts =
                ["decoded", "decoded_skip_special"].map(|name| entry[name].as_str().unwrap_or_default().to_owned());
            self.compare_equal(&format!("tokenizer/text {i}: ids"), &ids, &expected, None);
            let expected = numbers(&entry["with_special"]);
            self.compare_equal(&format!("tokenizer/text {i}: with special tokens"), &special, &expected, None);
            self.compare_equal(&format!("tokenizer/text {i}: decoded"), &decoded, &texts, None);
        }
        let chats = |name: &str| section[name].as_array().cloned().unwrap_or_default();
        for (i, entry) in chats("chats").iter().chain(&chats("chats_with_variables")).enumerate() {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let messages = entry["messages"].as_array().into_iter().flatten();
            let messages: Vec<Message> =
                messages.map(|m| Message { role: text(&m["role"]), content: text(&m["content"]) }).collect();
            let Some(chat) = self.model.chat() else { anyhow::bail!("the checkpoint has no chat template") };
            let rendered = chat.render_with(
                &messages,
                entry["add_generation_prompt"].as_bool().unwrap_or(false),
                entry["variables"].as_object().unwrap_or(&serde_json::Map::new()),
            )?;
            let ids = self.model.tokenizer().encode(&rendered, Specials::None)?;
            self.compare_equal(&format!("tokenizer/chat {i}: text"), &[rendered], &[text(&entry["text"])], None);
            self.compare_equal(&format!("tokenizer/chat {i}: ids"), &ids, &numbers(&entry["ids"]), None);
        }
        Ok(())
    }
}
