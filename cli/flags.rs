//! Maps library option names in errors to the command line's flags.

use std::sync::{Mutex, PoisonError};

use ruminate::{Error, engine};

/// Library option names and their flags.
const FLAGS: [(&str, &str); 39] = [
    ("KV lookup", "--kv-lookup"),
    ("against", "--against"),
    ("context", "--ctx-size"),
    ("continuous", "--continuous"),
    ("continuous=normed", "--continuous=normed"),
    ("diffusion", "--diffusion"),
    ("draft_len", "--draft-len"),
    ("draft_steps", "--speculate"),
    ("dry allowed_length", "--dry-allowed-length"),
    ("dry base", "--dry-base"),
    ("dry multiplier", "--dry-multiplier"),
    ("dry_breakers", "--dry-breaker"),
    ("dtype", "--dtype"),
    ("ema", "--ema"),
    ("exit", "--exit"),
    ("exit every", "--exit-every"),
    ("exit threshold", "--exit-threshold"),
    ("freeze", "--freeze"),
    ("headway", "--headway"),
    ("init_scale", "--init-scale"),
    ("inner_steps", "--inner-steps"),
    ("invariant", "--invariant"),
    ("kv_lookup", "--kv-lookup"),
    ("kv_memory", "--kv-memory"),
    ("kv_share", "--kv-share"),
    ("logit_bias", "--logit-bias"),
    ("logprobs", "--logprobs"),
    ("max_tokens", "--max-tokens"),
    ("min_p", "--min-p"),
    ("noise", "--noise"),
    ("noise_mix", "--noise-mix"),
    ("pipeline", "--pipeline"),
    ("pipeline every", "--pipeline"),
    ("repeat_penalty", "--repeat-penalty"),
    ("speculate", "--speculate"),
    ("stop string", "--stop"),
    ("temperature", "--temp"),
    ("top_p", "--top-p"),
    ("wavefront", "--wavefront"),
];

/// Option names of the server's library and their flags.
#[cfg(feature = "serve")]
const OF_SERVER: [(&str, &str); 9] = [
    ("api_keys", "--api-key"),
    ("connections", "--max-connections"),
    ("hosts", "--allowed-host"),
    ("max_header", "--max-header"),
    ("max_prompt", "--max-prompt"),
    ("max_steps", "--max-steps"),
    ("max_tokens", "--max-tokens"),
    ("origins", "--cors-origin"),
    ("steps", "--steps"),
];

/// Phrases of library errors and their replacements on the command line: inverted flags, options in parentheses, and commands.
const IN_PASSING: [(&str, &str); 13] = [
    ("or use max_tokens, which", "or use --max-tokens, which"),
    ("(full_prefill)", "(leave out --no-full-prefill)"),
    ("(kv_share)", "(--kv-share)"),
    ("(kv_share ", "(--kv-share "),
    ("(kv_dtype ", "(--kv-dtype "),
    ("(freeze)", "(--freeze)"),
    ("(noise_mix)", "(--noise-mix)"),
    ("(force)", "(--force)"),
    ("(the arithmetic mode may be chosen)", "(--arithmetic may be given)"),
    ("load the model with dtype ", "load the model with --dtype "),
    ("a file that Session::save wrote", "a file that --save-session wrote"),
    ("it can only continue a text", "it can only continue a text: `ruminate run`"),
    ("or download the model again", "or download the model again with `ruminate pull owner/name`"),
];

/// Advice about a field of `generation_config.json` without a flag.
const CHANGE: &str = "change it in that file";

/// Library option names, their fields in `generation_config.json`, and advice.
const OF_FILE: [(&str, &str, &str); 9] = [
    ("bad_words", "bad_words_ids in generation_config.json", CHANGE),
    ("begin_suppress", "begin_suppress_tokens in generation_config.json", CHANGE),
    ("forced_begin", "forced_bos_token_id in generation_config.json", CHANGE),
    ("forced_end", "forced_eos_token_id in generation_config.json", CHANGE),
    ("logit_bias", "suppress_tokens in generation_config.json", CHANGE),
    ("max_length", "max_length in generation_config.json", "--max-tokens overrides it"),
    ("max_tokens", "max_new_tokens in generation_config.json", "--max-tokens overrides it"),
    ("min_length", "min_length in generation_config.json", CHANGE),
    ("min_tokens", "min_new_tokens in generation_config.json", CHANGE),
];

/// Options that the model's `generation_config.json` sets, and no flag.
static SET_BY_FILE: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// Records the options that `generation_config.json` alone sets, so that errors name the file instead of a flag that nobody gave.
pub(crate) fn set_by_file(names: Vec<&'static str>) {
    *SET_BY_FILE.lock().unwrap_or_else(PoisonError::into_inner) = names;
}

/// Field of `generation_config.json` that sets an option, with advice.
fn field(name: &'static str) -> Option<(&'static str, &'static str)> {
    let is_set = SET_BY_FILE.lock().unwrap_or_else(PoisonError::into_inner).contains(&name);
    let (_, field, advice) = OF_FILE.iter().find(|(known, ..)| *known == name).filter(|_| is_set)?;
    Some((*field, *advice))
}

/// Message of an error, in terms of flags.
pub(crate) fn told(error: &Error) -> String {
    let names = match error {
        Error::Option { name, .. } | Error::Range { name, .. } => [Some(*name), None],
        Error::Together { one, other, .. } => [Some(*one), Some(*other)],
        _ => [None, None],
    };
    let advice: String = names
        .into_iter()
        .flatten()
        .filter_map(field)
        .map(|(field, advice)| format!("; {} is set by the model: {advice}", field.split(' ').next().unwrap_or(field)))
        .collect();
    let text = match error {
        Error::Option { name, value, allowed } => {
            Error::Option { name: flag(name), value: value.clone(), allowed }.to_string()
        }
        Error::Range { name, value, least, most, limit } => {
            let (name, value, least, most) = (flag(name), *value, *least, *most);
            Error::Range { name, value, least, most, limit }.to_string()
        }
        Error::Together { one, other, why } => Error::Together { one: flag(one), other: flag(other), why }.to_string(),
        Error::Requantize { asked, .. } => {
            let text = error.to_string();
            text.replace("load them without a dtype", "leave out --dtype")
                .replace(&format!("original in {asked}"), &format!("original with --dtype {asked}"))
                .replace("quantize it again", "quantize that again with `ruminate quantize`")
        }
        Error::Engine(engine::Error::Tuning { file, problem }) => {
            let problem = problem.trim_end_matches("; tune again");
            format!("--tuning {file}: {problem}; `ruminate tune --output FILE` makes one for this device")
        }
        error => error.to_string(),
    };
    IN_PASSING.iter().fold(text, |text, (words, flag)| text.replace(words, flag)) + &advice
}

/// Message of an invalid option of the server, in terms of flags.
#[cfg(feature = "serve")]
pub(crate) fn told_of_server(error: &ruminate_serve::InvalidOption) -> String {
    let ruminate_serve::InvalidOption { name, value, allowed } = error;
    let flag = OF_SERVER.iter().find(|(known, _)| known == name).map_or(*name, |(_, flag)| flag);
    // Keys may come from a file or the environment as well.
    let flag = if *name == "api_keys" { "a key of --api-key, --api-key-file or RUMINATE_API_KEY" } else { flag };
    let allowed = OF_SERVER
        .iter()
        .fold(allowed.clone(), |text, (name, flag)| text.replace(&format!("({name})"), &format!("({flag})")));
    format!("{flag} is {value}; it must be {allowed}")
}

/// Field of an option that `generation_config.json` sets, else its flag, or its name if it has no flag.
fn flag(name: &'static str) -> &'static str {
    if let Some((field, _)) = field(name) {
        return field;
    }
    FLAGS.iter().find(|(known, _)| *known == name).map_or(name, |(_, flag)| flag)
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, told};
    use clap::CommandFactory;
    use ruminate::{Error, engine};

    #[test]
    fn unusable_tuning_names_flag_and_remedy() {
        for problem in ["not a tuning", "made for device a, but this is b; tune again"] {
            let (file, problem) = ("bad.json".to_owned(), problem.to_owned());
            let text = told(&Error::Engine(engine::Error::Tuning { file, problem }));
            let remedy = text.ends_with("; `ruminate tune --output FILE` makes one for this device");
            assert!(text.starts_with("--tuning bad.json: ") && remedy && !text.contains("again"), "{text}");
        }
    }

    #[test]
    fn every_flag_exists() {
        let command = crate::Arguments::command();
        let flags = FLAGS.iter();
        #[cfg(feature = "serve")]
        let flags = flags.chain(&super::OF_SERVER);
        for (_, flag) in flags {
            let name = flag.trim_start_matches('-').split('=').next();
            let known = command.get_subcommands().any(|verb| verb.get_arguments().any(|it| it.get_long() == name));
            assert!(known, "{flag}");
        }
    }
}
