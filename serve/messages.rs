//! Encodes the messages of a request as a prompt.

use ruminate::ChatTemplate;
use serde_json::{Map, Value, json};

use crate::app::Loaded;
use crate::error::ApiError;

/// Roles of OpenAI's API, and their names in templates.
const ROLES: [(&str, &str); 6] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
    ("function", "function"),
];

/// Fields of a message that are passed to the template unchanged.
const PASSED_ON: [&str; 6] = ["name", "tool_calls", "tool_call_id", "reasoning_content", "refusal", "function_call"];

/// Input of the chat template.
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Tools,
    pub(crate) variables: Map<String, Value>,
    pub(crate) begins_answer: bool,
}

/// Tools, which the template describes to the model.
pub(crate) struct Tools(Option<Vec<Value>>);

impl Tools {
    /// Checks the tool fields. The model may call tools in the format of its template, but cannot be forced to.
    pub(crate) fn new(
        tools: Option<Vec<Value>>,
        choice: Option<&Value>,
        parallel: Option<bool>,
    ) -> Result<Self, ApiError> {
        let tools = tools.filter(|tools| !tools.is_empty());
        if parallel == Some(false) && tools.is_some() {
            let message = "`parallel_tool_calls` cannot be false: the number of tool calls cannot be limited";
            return Err(ApiError::field("parallel_tool_calls", message).with_code("unsupported_parameter"));
        }
        match choice {
            Some(Value::String(choice)) if choice == "none" => return Ok(Self(None)),
            None | Some(Value::Null) => {}
            Some(Value::String(choice)) if choice == "auto" => {}
            Some(_) => {
                let message = "`tool_choice` must be none or auto: the model cannot be forced to call a tool";
                return Err(ApiError::field("tool_choice", message).with_code("unsupported_parameter"));
            }
        }
        for (place, tool) in tools.iter().flatten().enumerate() {
            if tool["type"] != "function" || !tool["function"]["name"].is_string() {
                let message = "a tool must be an object of type function, with a `name` in its `function`";
                return Err(ApiError::field(format!("tools[{place}]"), message));
            }
        }
        Ok(Self(tools))
    }
}

impl Conversation {
    /// Encodes the conversation up to the beginning of the answer.
    ///
    /// # Errors
    /// 400 if the model has no template, or the template rejects the conversation.
    pub(crate) fn encode(self, loaded: &Loaded) -> Result<Vec<u32>, ApiError> {
        let Some(template) = loaded.model.chat() else {
            let message = "this model has no chat template; use /v1/completions";
            return Err(ApiError::field("messages", message));
        };
        let Self { messages, tools: Tools(tools), mut variables, begins_answer } = self;
        if messages.is_empty() {
            return Err(ApiError::field("messages", "`messages` is empty: give at least one message"));
        }
        // Each message takes at least one token. Rendering thousands of them only to refuse them would take seconds.
        if messages.len() > loaded.context as usize {
            let message = format!(
                "`messages` has {} messages, more than the {} positions of the context",
                messages.len(),
                loaded.context
            );
            return Err(ApiError::field("messages", message).with_code("context_length_exceeded"));
        }
        let each = messages.into_iter().enumerate().map(|(place, message)| read(place, message));
        let messages = Value::Array(each.collect::<Result<_, _>>()?);
        let tools_too = variables.contains_key("tools").then_some("tools");
        if let Some(reserved) = ChatTemplate::reserved(&variables).or(tools_too) {
            let message =
                format!("`chat_template_kwargs` cannot contain `{reserved}`, which is a field of the request");
            return Err(ApiError::field("chat_template_kwargs", message));
        }
        let tokenizer = loaded.model.tokenizer();
        let encode = |variables: &Map<String, Value>| {
            template.encode_values(tokenizer, &messages, begins_answer, false, variables)
        };
        let Some(tools) = tools else { return Ok(encode(&variables)?) };
        let without = encode(&variables)?;
        variables.insert("tools".to_owned(), Value::Array(tools));
        let with = encode(&variables)?;
        if with == without {
            let message = "this model's chat template does not support tools, so the model would not see them";
            return Err(ApiError::field("tools", message).with_code("unsupported_parameter"));
        }
        Ok(with)
    }
}

/// Converts a message for the template.
fn read(place: usize, message: Value) -> Result<Value, ApiError> {
    let wrong = |field: &str, what: String| {
        let path = if field.is_empty() { format!("messages[{place}]") } else { format!("messages[{place}].{field}") };
        Err(ApiError::field(path.clone(), format!("`{path}` {what}")))
    };
    let Value::Object(mut fields) = message else { return wrong("", "must be an object".to_owned()) };
    let role = match fields.remove("role") {
        Some(Value::String(role)) => role,
        _ => return wrong("role", "is missing; it must be a text such as user".to_owned()),
    };
    let Some((_, role)) = ROLES.iter().find(|(name, _)| *name == role) else {
        return wrong("role", "must be system, developer, user, assistant, tool or function".to_owned());
    };
    let calls = fields.get("tool_calls").is_some_and(|calls| !calls.is_null());
    let content = match fields.remove("content") {
        Some(Value::String(text)) => text,
        None | Some(Value::Null) if *role == "assistant" && calls => String::new(),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in &parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(part)) => text.push_str(part),
                    (Some(kind), _) if kind != "text" => {
                        let kind: String = kind.chars().take(40).collect();
                        return wrong("content", format!("has a part of type {kind:?}; the model reads text only"));
                    }
                    _ => return wrong("content", "has a part that is not an object with `type` and `text`".to_owned()),
                }
            }
            text
        }
        _ => return wrong("content", "must be a text, or a list of parts of type text".to_owned()),
    };
    let mut read = json!({ "role": role, "content": content });
    for (name, value) in fields {
        if value.is_null() {
            continue;
        }
        match PASSED_ON.contains(&name.as_str()) {
            true => read[name] = value,
            false => {
                let name: String = name.chars().take(64).collect();
                return wrong(&name, "is not a known field, so it would be ignored".to_owned());
            }
        }
    }
    Ok(read)
}
