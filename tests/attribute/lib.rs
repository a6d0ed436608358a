//! `#[trial(...)]` registers a function as a test.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function as a test of its binary.
///
/// The arguments are words, in any order:
/// - Where to run, one trial each: `device` (the device under test), `limited` (that device with the limits of WebGPU), `cpu` (the CPU reference),
///   `adapters` (every adapter of the machine); the function takes a `&Device`. Without such a word, it takes no argument. `list` is for functions
///   that return a `Vec<Entry>`, one entry per trial.
/// - Tier: `quick` (the default), `full` or `matrix`.
/// - `needs(PATH)`: a function `fn() -> Option<String>` that returns the reason why the trial cannot run here, if any.
#[proc_macro_attribute]
pub fn trial(arguments: TokenStream, item: TokenStream) -> TokenStream {
    register(arguments, &item).map_or_else(
        |problem| format!("compile_error!({problem:?});").parse().unwrap_or_default(),
        |mut all| {
            all.extend(item);
            all
        },
    )
}

fn register(arguments: TokenStream, item: &TokenStream) -> Result<TokenStream, String> {
    let mut tokens = item.clone().into_iter();
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    tokens.find(is_fn).ok_or("#[trial] must be placed on a function")?;
    let name = tokens.next().ok_or("a function has a name")?.to_string();

    let (mut tier, mut needs, mut places) = ("quick".to_owned(), "None".to_owned(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(token) = arguments.next() {
        match token.to_string().as_str() {
            "," => {}
            word @ ("quick" | "full" | "matrix") => tier = word.to_owned(),
            word @ ("device" | "limited" | "cpu" | "adapters" | "list") => places.push(word.to_owned()),
            "needs" => {
                let path = arguments.next().ok_or("needs(PATH) lacks its path")?.to_string();
                needs = format!("Some{path}");
            }
            other => return Err(format!("unknown word `{other}` in #[trial(...)]")),
        }
    }
    if places.is_empty() {
        places.push("host".to_owned());
    }
    let submit = |place: &String| {
        let run = match place.as_str() {
            "host" => format!("Host(|| ::ruminate_tests::Outcome::outcome({name}()))"),
            "list" => format!("List({name})"),
            "device" => on("Device", &name),
            "limited" => on("Limited", &name),
            "cpu" => on("Cpu", &name),
            _ => on("Adapters", &name),
        };
        format!(
            "::ruminate_tests::inventory::submit! {{ ::ruminate_tests::Registered {{
                tier: {tier:?}, module: module_path!(), name: {name:?}, needs: {needs}, run: ::ruminate_tests::Run::{run},
            }} }}"
        )
    };
    places.iter().map(submit).collect::<String>().parse().map_err(|error| format!("{error:?}"))
}

fn on(place: &str, name: &str) -> String {
    format!("{place}(|device| ::ruminate_tests::Outcome::outcome({name}(device)))")
}
