// Pieces of the page: elements, words, players, choices. Text is set as text, never as HTML.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const fill = (text, values = {}) => text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);

export function say(text) {
  document.getElementById("status").textContent = text;
}

// A view's heading takes the focus, so that a screen reader begins there.
export function show(...children) {
  const main = document.getElementById("content");
  main.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  const heading = main.querySelector("h1");
  if (heading) {
    heading.tabIndex = -1;
    heading.focus();
  }
  window.scrollTo(0, 0);
}

const players = new Set();
export function silence() {
  for (const player of players) player.audio.pause();
}
export function forgetPlayers() {
  silence();
  for (const player of players) URL.revokeObjectURL(player.audio.src);
  players.clear();
}

// One audio player: a button, a position slider, and the number of seconds played (each second counts once).
export function makePlayer(name, address, words, minimumSeconds) {
  const audio = new Audio(address);
  const button = make("button", { type: "button" }, fill(words.play, { name }));
  const position = make("input", { type: "range", min: 0, max: 100, step: 1, value: 0, "aria-label": fill(words.position, { name }) });
  const state = make("small", {}, minimumSeconds > 0 ? words.not_listened_short : "");
  const player = { name, audio, button, position, state, minimumSeconds, box: null };
  player.listenedSeconds = () => {
    let seconds = 0;
    for (let i = 0; i < audio.played.length; i += 1) seconds += audio.played.end(i) - audio.played.start(i);
    return seconds;
  };
  player.ready = () => player.listenedSeconds() >= minimumSeconds;
  const refresh = () => {
    const playing = !audio.paused && !audio.ended;
    button.textContent = fill(playing ? words.pause_sound : words.play, { name });
    player.box?.classList.toggle("playing", playing);
    if (player.ready() && minimumSeconds > 0) state.textContent = words.listened;
  };
  button.addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    silence();
    return audio.play();
  });
  audio.addEventListener("timeupdate", () => {
    if (audio.duration) position.value = (100 * audio.currentTime) / audio.duration;
    refresh();
  });
  for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, refresh);
  position.addEventListener("input", () => {
    if (audio.duration) audio.currentTime = (position.value / 100) * audio.duration;
  });
  players.add(player);
  return player;
}

export function choices(legend, note, name, options, { list = false, apart = null } = {}) {
  const box = make("div", { class: list ? "choices list" : "choices" });
  for (const [value, text] of options) {
    const radio = make("input", { type: "radio", name, value });
    box.append(make("label", { class: value === apart ? "choice apart" : "choice" }, radio, make("span", {}, text)));
  }
  const head = make("legend", {}, legend, note ? make("span", {}, note) : null);
  return make("fieldset", {}, head, box);
}

export const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
export const focusOn = (name) => document.querySelector(`input[name="${name}"]`).focus();
