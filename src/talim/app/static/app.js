// The frame of every page: words, steps, the command that runs, and forms that run one.
import { ask, token } from "./server.js";
import { fill, make, say, show } from "./parts.js";
import { live, pages } from "./steps.js";

const NAMES = Object.keys(pages);
const json = async (...request) => (await ask(...request)).json();
const slept = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const page = { name: location.pathname.slice(1), all: {}, words: {}, job: null };

// A server that is away is asked until it is there again; until then the page says so.
export async function send(method, path, body) {
  let away = false;
  const answer = await json(method, path, body, () => { away = true; say(text("offline")); });
  if (away) say("");
  return answer;
}
export const text = (key, values) => fill(page.words[key] ?? key, values);
export const link = (name) => `/${name}${location.hash}`;
// What went wrong, in words where there are some.
export const reason = (error) => page.words[error.reason] ?? error.reason ?? error.message;
export const tell = (error) => say(text("failed", { reason: reason(error) }));

export function field(name, label, attributes = {}, options = null) {
  const input = options
    ? make("select", { name }, ...options.map(([value, shown]) => make("option", { value, selected: value === attributes.value }, shown)))
    : make("input", { name, type: "text", ...attributes });
  return make("label", { class: "field" }, make("span", {}, label), input);
}

// The values of a form by name: numbers as numbers, empty fields left out.
export function values(form) {
  const found = {};
  for (const input of form.elements) {
    if (!input.name || input.value === "" || input.type === "file") continue;
    found[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  return found;
}

// What was typed stays when the page is drawn anew: by form, then by field.
const typed = {};
export function keep(form, key) {
  const kept = (typed[key] ??= {});
  for (const input of form.elements) if (input.name in kept) input.value = kept[input.name];
  form.addEventListener("input", (event) => { kept[event.target.name] = event.target.value; });
}

// A form that runs a command, which stands above its button as a terminal user would type it.
export function jobForm(name, label, fields, { fixed = {}, before = null } = {}) {
  const command = make("code", {});
  const button = make("button", { type: "submit", class: "main" }, label);
  const form = make("form", {}, make("div", { class: "fields" }, ...fields), make("p", { class: "command" }, command), make("div", { class: "actions" }, button));
  keep(form, `${name} ${label}`);
  const asked = () => ({ ...values(form), ...fixed });
  let last = 0;
  const preview = async () => {
    const mine = (last += 1);
    await slept(150);
    if (mine !== last) return;
    try {
      const found = (await send("POST", `/api/jobs/${name}?preview=true`, asked())).command;
      if (mine === last) command.textContent = found;
    } catch (error) {
      command.textContent = reason(error);
    }
  };
  form.addEventListener("input", preview);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    try {
      if (before) await before(asked());
      await send("POST", `/api/jobs/${name}`, asked());
      say("");
      await look();
      document.getElementById("job").scrollIntoView({ block: "nearest" });
    } catch (error) {
      tell(error);
    }
    button.removeAttribute("aria-disabled");
  });
  preview();
  return form;
}

// The page that a command belongs to.
const OF = { suggest: "recordings", prepare: "recordings", evaluate: "listen", "listening-test": "listen", ratings: "listen", report: "decide", brief: "decide", "brief-report": "decide" };
const home = (job) => OF[job.name] ?? job.name;

function drawJob() {
  const { job } = page;
  const box = document.getElementById("job");
  const mine = job && home(job) === page.name;
  box.hidden = !job || (!mine && job.state !== "running");
  if (box.hidden) return;
  const running = job.state === "running";
  box.setAttribute("aria-label", text("command"));
  if (!mine) {
    const where = make("a", { href: link(home(job)) }, text("go_there"));
    box.replaceChildren(make("div", {}, make("p", {}, text("running_elsewhere", { command: job.command })), make("p", {}, where)));
    return;
  }
  const open = box.querySelector("details")?.open ?? job.state === "failed";
  const stop = make("button", { type: "button", onclick: () => send("DELETE", "/api/job").then(() => say(text("stopping")), tell) }, text("stop"));
  const focused = running && box.contains(document.activeElement) && document.activeElement.tagName === "BUTTON";
  box.replaceChildren(make("div", {},
    make("h2", {}, text(running ? "running" : "command")),
    make("p", { class: "command" }, make("code", {}, job.command)),
    make("p", {}, running ? job.log.at(-1) ?? text("loading") : text(`state_${job.state}`)),
    running ? stop : null,
    make("details", { open: open || job.state === "failed" }, make("summary", {}, text("log")), make("pre", { lang: "en", tabindex: 0 }, job.log.join("\n"))),
  ));
  if (focused) stop.focus();
}

async function look() {
  const before = page.job;
  page.job = (await send("GET", "/api/job")).job;
  const changed = before?.state !== page.job?.state || before?.began !== page.job?.began;
  if (changed || page.job?.state === "running") drawJob();
  const over = changed && page.job && page.job.state !== "running";
  if (over && home(page.job) === page.name) {
    await draw();
    say(text(`state_${page.job.state}`));
  } else if (page.job?.state === "running" && live[page.name]) {
    live[page.name](await read(page.name));
  }
}

export const read = (name) => send("GET", `/api/pages/${name}?language=${document.documentElement.lang}`);

export async function draw() {
  const state = await read(page.name);
  const steps = NAMES.map((name) => {
    const done = state.done.includes(name) ? make("span", {}, " ✓", make("span", { class: "unseen" }, ` (${text("done")})`)) : null;
    return make("li", {}, make("a", { href: link(name), "aria-current": name === page.name ? "page" : null }, text(name), done));
  });
  const nav = document.getElementById("steps");
  nav.setAttribute("aria-label", text("steps"));
  nav.replaceChildren(make("ol", {}, ...steps));
  document.getElementById("folder").textContent = text("folder", { folder: state.folder });
  document.title = `${text(page.name)} | talim`;
  const next = state.done.includes(page.name) ? NAMES[NAMES.indexOf(page.name) + 1] : null;
  const onward = next ? make("p", {}, make("a", { href: link(next) }, text("next_step", { step: text(next) }))) : null;
  const drawn = [make("h1", { tabindex: -1 }, text(page.name)), make("p", {}, text(`${page.name}_intro`)), ...pages[page.name](state), onward];
  const main = document.getElementById("content");
  if (main.querySelector("h1")) { // the page is known: who reads or types stays where he is
    const inside = main.contains(document.activeElement);
    main.replaceChildren(...drawn.filter(Boolean));
    if (inside) main.querySelector("h1").focus({ preventScroll: true });
  } else {
    show(...drawn);
  }
  drawJob();
}

function setLanguage(code) {
  page.words = { ...page.all.en, ...page.all[code] };
  document.documentElement.lang = code;
  const select = document.getElementById("language");
  select.replaceChildren(...Object.entries(page.all).map(([value, words]) => make("option", { value, lang: value }, words.language)));
  select.value = code;
  document.getElementById("language-label").textContent = text("choose_language");
  document.getElementById("skip").textContent = text("skip");
}

async function start() {
  page.all = await json("GET", "/api/words");
  const wanted = [localStorage.getItem("language"), ...navigator.languages.map((name) => name.split("-")[0])];
  setLanguage(wanted.find((code) => page.all[code]) ?? "en");
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address keeps its key
    document.getElementById("content").focus();
  });
  document.getElementById("language").addEventListener("change", async (event) => {
    localStorage.setItem("language", event.target.value);
    setLanguage(event.target.value);
    await draw();
    document.getElementById("language").focus();
  });
  window.addEventListener("hashchange", () => location.reload());
  if (!token()) return show(make("h1", {}, "talim"), make("p", {}, text("no_token")));
  try {
    if (!pages[page.name]) {
      const { done } = await read(NAMES[0]);
      return location.replace(link(NAMES.find((name) => !done.includes(name)) ?? NAMES[0]));
    }
    page.job = (await send("GET", "/api/job")).job;
    await draw();
    for (;;) {
      await slept(page.job?.state === "running" ? 1000 : 3000);
      if (!document.hidden) await look();
    }
  } catch (error) {
    return show(make("h1", {}, "talim"), make("p", {}, text("failed", { reason: reason(error) })));
  }
}

start();
