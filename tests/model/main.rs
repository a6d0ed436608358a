//! Models: files, configs, tokenizers, weights, sessions and their outputs.

mod arithmetic;
mod assets;
mod checkpoint;
mod config;
mod embedding;
mod error_codes;
mod family;
mod family_table;
mod folders;
mod options_json;
mod quantize;
mod score;
mod sizes;
mod snapshots;
mod steering;
mod sweep;
mod template;
mod template_python;
mod tokenizer;
mod tokenizer_files;
mod tokenizer_text;
mod trace;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
