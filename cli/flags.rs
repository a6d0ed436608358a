//! What the library says of its options, said of the flags that stand for them.

use ruminate::Error;

/// Options of the library, and their flags.
const FLAGS: [(&str, &str); 37] = [
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
    ("kv_share", "--kv-share"),
    ("logit_bias", "--logit-bias"),
    ("logprobs", "--logprobs"),
    ("max_tokens", "--max-tokens"),
    ("min_p", "--min-p"),
    ("noise", "--noise"),
    ("noise_mix", "--noise-mix"),
    ("pipeline", "--pipeline"),
    ("repeat_penalty", "--repeat-penalty"),
    ("speculate", "--speculate"),
    ("stop string", "--stop"),
    ("temperature", "--temp"),
    ("top_p", "--top-p"),
    ("wavefront", "--wavefront"),
];

/// Where the flag says the opposite, and where another option is named in passing.
const IN_PASSING: [(&str, &str); 4] = [
    ("(full_prefill)", "(leave out --no-full-prefill)"),
    ("(kv_share)", "(--kv-share)"),
    ("(freeze)", "(--freeze)"),
    ("(noise_mix)", "(--noise-mix)"),
];

/// What an error says, in terms of flags.
pub(crate) fn told(error: &Error) -> String {
    let text = match error {
        Error::Option { name, value, allowed } => {
            Error::Option { name: flag(name), value: value.clone(), allowed }.to_string()
        }
        Error::Together { one, other, why } => Error::Together { one: flag(one), other: flag(other), why }.to_string(),
        error => return error.to_string(),
    };
    IN_PASSING.iter().fold(text, |text, (name, flag)| text.replace(name, flag))
}

/// The flag of an option; what has none keeps its name.
fn flag(name: &'static str) -> &'static str {
    FLAGS.iter().find(|(known, _)| *known == name).map_or(name, |(_, flag)| flag)
}

#[cfg(test)]
mod tests {
    use super::FLAGS;
    use clap::CommandFactory;

    #[test]
    fn every_flag_exists() {
        let command = crate::Arguments::command();
        for (_, flag) in FLAGS {
            let name = flag.trim_start_matches('-').split('=').next();
            let known = command.get_subcommands().any(|verb| verb.get_arguments().any(|it| it.get_long() == name));
            assert!(known, "{flag}");
        }
    }
}
