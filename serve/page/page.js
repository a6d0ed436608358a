"use strict";
// Script of the built-in page: chat through /v1/chat/completions, or text continuation through /v1/completions. It sends no request to another host.

const STORE = "ruminate.conversation";
const $ = (id) => document.getElementById(id);
const [log, form, input] = [$("log"), $("form"), $("input")];

// A problem of the kind that the embedded demo was trained for.
const DEMO = "The ball is under cup D. Swap AD AE DE BD BD DE AC BC AD AC AC AE CE";

const state = {
  model: null, // an entry of /v1/models
  turns: [], // { role, content, tokens: [[text, steps]], most, figures }
  running: null, // an AbortController
};

// ── the server ──

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

// Error of an unsuccessful response.
async function failure(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `the server answered ${response.status} ${response.statusText}`;
  if (response.status === 401) askForKey();
  const wait = response.headers.get("Retry-After");
  return new Error(response.status === 429 && wait ? `${message} (in about ${wait} s)` : message);
}

function askForKey() {
  $("key-field").hidden = false;
  $("key").focus();
}

// Fetches the served model, and retries while it is loading.
async function connect() {
  for (;;) {
    let wait = 2;
    try {
      const response = await fetch("/v1/models", { headers: headers() });
      if (response.ok) {
        const list = await response.json();
        state.model = list.data[0];
        $("key-field").hidden = !$("key").value;
        return describe();
      }
      const problem = await failure(response);
      $("model").textContent = problem.message;
      if (response.status === 401) return;
      wait = Number(response.headers.get("Retry-After")) || wait;
    } catch {
      $("model").textContent = "the server cannot be reached";
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 10) * 1000));
  }
}

function describe() {
  const { id, meta = {} } = state.model;
  const { steps = {}, exit_criteria: criteria = [], chat = true, dtype, device } = meta;
  $("model").textContent = [id, dtype, device].filter(Boolean).join(" · ");
  const usual = steps.default ?? 32;
  const most = Math.min(steps.max ?? 65536, Math.max(steps.most_useful ?? 0, 2 * usual, 8));
  $("steps").max = most;
  $("steps-exact").max = steps.max ?? 65536;
  if (!settings.has("steps-exact")) setSteps(usual);
  else setSteps($("steps-exact").value);
  const chosen = settings.get("exit");
  $("exit").replaceChildren(new Option("never: all steps", ""), ...criteria.map((name) => new Option(name, name)));
  $("exit").value = criteria.includes(chosen) ? chosen : "";
  const demo = id === "demo";
  $("mode").options[0].disabled = !chat;
  if (!chat || (demo && !settings.has("mode"))) $("mode").value = "text";
  const note = !chat
    ? "This model has no chat template, so it continues each message as a text."
    : demo && "The embedded demo solves only three kinds of problems, so each message is continued as a text. Try the problem below at 1 step and at 32.";
  $("note").textContent = note || "";
  $("note").hidden = !note;
  if (demo && !input.value && !state.turns.length) input.value = DEMO;
  showMode();
}

// ── settings ──

const settings = new Map();
const KEPT = ["steps-exact", "exit", "threshold", "min-steps", "max-tokens", "temperature", "seed", "mode", "system", "tint"];

function restoreSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(`${STORE}.settings`)) ?? {};
  } catch {
    // Written by something else; ignored.
  }
  for (const id of KEPT.filter((id) => typeof kept[id] === "string")) {
    settings.set(id, kept[id]);
    if ($(id).type === "checkbox") $(id).checked = kept[id] === "true";
    else $(id).value = kept[id];
  }
  $("key").value = sessionStorage.getItem(`${STORE}.key`) ?? "";
}

function keepSetting(id) {
  settings.set(id, String($(id).type === "checkbox" ? $(id).checked : $(id).value));
  store(`${STORE}.settings`, Object.fromEntries(settings));
}

function setSteps(value) {
  const most = Number($("steps-exact").max) || 65536;
  const steps = Math.min(Math.max(Math.round(Number(value)) || 1, 1), most);
  $("steps").value = steps;
  $("steps").setAttribute("aria-valuetext", `${steps} ${steps === 1 ? "step" : "steps"} per token`);
  $("steps-exact").value = steps;
  $("legend-most").textContent = `${steps} ${steps === 1 ? "step" : "steps"}`;
}

function showMode() {
  const text = $("mode").value === "text";
  input.placeholder = text ? "Text to continue" : "Message";
  $("send").textContent = text ? "Continue" : "Send";
  $("system").disabled = text;
}

const number = (id) => ($(id).value === "" || !Number.isFinite(Number($(id).value)) ? undefined : Number($(id).value));

// Path and body of the request that answers the last turn.
function request() {
  const criterion = $("exit").value;
  const common = {
    model: state.model?.id,
    steps: number("steps-exact"),
    exit: criterion ? { criterion, threshold: number("threshold"), min_steps: number("min-steps") } : undefined,
    max_tokens: number("max-tokens"),
    temperature: number("temperature"),
    seed: number("seed"),
    return_steps: true,
    stream: true,
    stream_options: { include_usage: true },
  };
  if ($("mode").value === "text") return ["/v1/completions", { ...common, prompt: state.turns.at(-1).content }];
  const system = $("system").value.trim();
  const messages = state.turns.map(({ role, content }) => ({ role, content }));
  if (system) messages.unshift({ role: "system", content: system });
  return ["/v1/chat/completions", { ...common, messages }];
}

// ── the conversation ──

function store(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function keep() {
  if (!store(STORE, state.turns) && !store(STORE, state.turns.map(({ tokens, ...turn }) => turn))) {
    say("The browser has no storage left for this conversation, so it will be lost when the page is closed.");
  }
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE));
    const fits = (turn) => ["user", "assistant"].includes(turn?.role) && typeof turn.content === "string";
    if (Array.isArray(kept)) state.turns = kept.filter(fits);
  } catch {
    // Written by something else; ignored.
  }
  log.replaceChildren();
  state.turns.forEach(show);
}

// Adds a turn to the log.
function show(turn) {
  const article = document.createElement("article");
  article.className = turn.role;
  const heading = document.createElement("h2");
  heading.textContent = turn.role === "user" ? "You" : "Model";
  const text = document.createElement("div");
  text.className = "text";
  article.append(heading, text);
  if (Array.isArray(turn.tokens) && turn.tokens.length) {
    for (const [part, steps] of turn.tokens) text.append(token(part, steps, turn.most));
  } else {
    text.textContent = turn.content;
  }
  if (turn.role === "assistant") {
    const figures = document.createElement("p");
    figures.className = "figures";
    figures.textContent = turn.figures ?? "";
    article.append(figures);
  }
  log.append(article);
  return article;
}

function token(text, steps, most) {
  const span = document.createElement("span");
  span.className = "token";
  span.textContent = text;
  if (steps) {
    span.title = `${steps} ${steps === 1 ? "step" : "steps"}`;
    span.style.setProperty("--depth", most > 1 ? Math.min((steps - 1) / (most - 1), 1).toFixed(3) : "1");
  } else {
    span.style.setProperty("--depth", "0");
  }
  return span;
}

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// Figures of an answer: tokens, tokens per second, steps.
function figures(turn, times, usage, end) {
  const steps = turn.tokens.map(([, steps]) => steps).filter(Boolean);
  const words = [plural(usage?.completion_tokens ?? turn.tokens.length, "token")];
  const seconds = (times.last - times.first) / 1000;
  if (times.count > 1 && seconds > 0) words.push(`${((times.count - 1) / seconds).toFixed(1)} tokens/s`);
  if (steps.length) {
    const [least, most] = [Math.min(...steps), Math.max(...steps)];
    const mean = steps.reduce((sum, count) => sum + count, 0) / steps.length;
    words.push(least === most ? `${plural(least, "step")} per token` : `${mean.toFixed(1)} steps per token (${least} to ${most})`);
  }
  if (usage?.core_passes) words.push(plural(usage.core_passes, "core pass").replace("passs", "passes"));
  if (end) words.push(end);
  return words.join(" · ");
}

function say(text) {
  $("problem").textContent = text;
}

// Scrolls to the newest text, unless the reader has scrolled back.
function follow(work) {
  const page = document.scrollingElement;
  const near = page.scrollHeight - page.scrollTop - page.clientHeight < 80;
  work();
  if (near) page.scrollTop = page.scrollHeight;
}

// Parsed events of a stream.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

// Requests the answer to the last turn and shows it while it arrives.
async function answer() {
  const [path, body] = request();
  const turn = { role: "assistant", content: "", tokens: [], most: body.steps, figures: "" };
  const article = show(turn);
  article.classList.add("waiting");
  const [text, below] = [article.querySelector(".text"), article.querySelector(".figures")];
  const times = { first: 0, last: 0, count: 0 };
  let [usage, end, problem, whole] = [null, "", "", false];
  state.running = new AbortController();
  busy(true);
  follow(() => {});
  try {
    const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal: state.running.signal });
    if (!response.ok) throw await failure(response);
    for await (const chunk of events(response.body)) {
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      const part = choice.delta?.content ?? choice.text ?? "";
      const steps = choice.steps?.[0];
      if (choice.finish_reason) {
        whole = true;
        end = choice.finish_reason === "length" ? "stopped by the limit on tokens" : "";
      }
      if (steps) {
        times.last = performance.now();
        times.first ||= times.last;
        times.count += 1;
      }
      if (!part && !steps) continue;
      turn.content += part;
      turn.tokens.push([part, steps ?? 0]);
      follow(() => {
        article.classList.remove("waiting");
        text.append(token(part, steps, turn.most));
        below.textContent = figures(turn, times, null, "");
      });
    }
    if (!whole) problem = "The answer was cut off: the connection to the server ended.";
  } catch (error) {
    if (error.name === "AbortError") end = "stopped";
    else problem = error instanceof TypeError ? "The connection to the server was lost." : error.message;
  }
  article.classList.remove("waiting");
  state.running = null;
  busy(false);
  say(problem);
  if (!turn.tokens.length && (problem || end === "stopped")) {
    // No answer: the message returns to the input, to be sent again.
    article.remove();
    log.lastElementChild?.remove();
    const { content } = state.turns.pop();
    if (!input.value) input.value = content;
    $("announce").textContent = end;
  } else {
    turn.figures = figures(turn, times, usage, problem ? "cut off" : end);
    follow(() => (below.textContent = turn.figures));
    state.turns.push(turn);
    $("announce").textContent = `${turn.content} (${turn.figures})`;
  }
  keep();
}

function busy(running) {
  $("send").hidden = running;
  $("stop").hidden = !running;
  log.setAttribute("aria-busy", String(running));
  if (running) {
    $("announce").textContent = "The model is answering";
    if (document.activeElement === document.body || document.activeElement === $("send")) $("stop").focus();
  } else if ([document.body, $("stop")].includes(document.activeElement)) {
    input.focus();
  }
}

const stop = () => state.running?.abort();

// ── user input ──

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const content = $("mode").value === "text" ? input.value : input.value.trim();
  if (state.running || !content) return;
  if (!state.model) return say("The server is not ready yet.");
  say("");
  const turn = { role: "user", content };
  state.turns.push(turn);
  show(turn);
  input.value = "";
  answer();
});
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.running) stop();
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", () => {
  stop();
  const forget = () => {
    if (state.running) return setTimeout(forget, 20);
    state.turns = [];
    log.replaceChildren();
    say("");
    keep();
    $("announce").textContent = "New conversation";
    input.focus();
  };
  forget();
});
$("steps").addEventListener("input", () => setSteps($("steps").value));
$("steps").addEventListener("change", () => keepSetting("steps-exact"));
$("steps-exact").addEventListener("change", () => {
  setSteps($("steps-exact").value);
  keepSetting("steps-exact");
});
for (const id of KEPT.filter((id) => id !== "steps-exact")) $(id).addEventListener("change", () => keepSetting(id));
const tint = () => document.body.classList.toggle("tinted", $("tint").checked);
$("tint").addEventListener("change", tint);
$("mode").addEventListener("change", showMode);
$("key").addEventListener("change", () => {
  sessionStorage.setItem(`${STORE}.key`, $("key").value);
  if (!state.model) connect();
});

restoreSettings();
restore();
tint();
showMode();
connect();
input.focus();
