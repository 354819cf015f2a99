// The organiser's page: links, who has come how far, votes as a file, deletion on request.
import { ask } from "./server.js";
import { fill, make, say } from "./parts.js";
import { chooseLanguage, firstLanguage, json, page } from "./page.js";

const word = (key, values) => fill(page.words.organiser[key], values);
const stamp = (seconds) => (seconds ? new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") : "");

async function refresh() {
  const address = `/api/organiser/status?language=${document.documentElement.lang}`;
  const status = await json("GET", address, undefined, () => say(page.words.offline));
  document.title = `${word("title")} | talim`;
  document.getElementById("name").textContent = status.name;
  const frozen = status.frozen_at ? word("frozen", { time: stamp(status.frozen_at) }) : word("not_frozen");
  const { hash, site, deleted } = status;
  const told = word(status.publish ? "published" : "unpublished");
  document.getElementById("facts").textContent = [word("facts", { hash, site, frozen, deleted }), told, status.notes.join(". ")].join(" ");
  document.getElementById("list").setAttribute("aria-label", word("list"));
  const { columns } = page.words.organiser;
  document.getElementById("columns").replaceChildren(...Object.values(columns).map((text) => make("th", { scope: "col" }, text)));
  document.getElementById("listeners").replaceChildren(...status.listeners.map(row));
  const forms = ["csv", "jsonl"].map((form) => make("button", { type: "button", "data-form": form, onclick: () => save(form) }, word("save", { form: form.toUpperCase() })));
  document.getElementById("forms").replaceChildren(...forms);
}

function row(person) {
  const { id } = person;
  const button = make("button", { type: "button", "aria-label": word("delete_listener", { id }) }, word("delete"));
  let sure = false;
  button.addEventListener("click", async () => {
    if (!sure) {
      sure = true;
      button.textContent = word("delete_sure");
      return;
    }
    const { deleted } = await json("DELETE", `/api/organiser/listeners/${id}`);
    say(word(deleted ? "deleted" : "delete_pending", { id }));
    await refresh();
  });
  const group = page.words.groups[person.group] || person.group || "";
  const cells = [id, person.label, group, String(person.answered), stamp(person.finished_at)];
  return make("tr", {}, ...cells.map((text) => make("td", {}, text)), make("td", {}, button));
}

async function save(form) {
  const blob = await (await ask("GET", `/api/organiser/votes?form=${form}`)).blob();
  const link = make("a", { href: URL.createObjectURL(blob), download: `votes.${form}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.getElementById("links").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = { count: Number(document.getElementById("count").value), label: document.getElementById("label").value };
  const made = await json("POST", "/api/organiser/links", wanted);
  document.getElementById("made").replaceChildren(...made.map(({ token }) => make("li", {}, `${location.origin}/#${token}`)));
  say(word("made", { count: made.length }));
  await refresh();
});

window.addEventListener("unhandledrejection", ({ reason }) => {
  say(reason.status === 401 ? word("no_link") : word("broken", { reason: reason.reason || reason.message }));
});
chooseLanguage();
page.redraw = refresh;
firstLanguage().then(refresh);
