// The organiser's page: links, who has come how far, votes as a file, deletion on request.
import { ask } from "./server.js";
import { make, say } from "./parts.js";

const json = async (...request) => (await ask(...request)).json();
const stamp = (seconds) => (seconds ? new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") : "");

async function refresh() {
  const status = await json("GET", "/api/organiser/status", undefined, () => say("The server cannot be reached. Trying again…"));
  document.getElementById("name").textContent = status.name;
  const frozen = status.frozen_at ? `frozen since its first vote (${stamp(status.frozen_at)} UTC)` : "no vote yet: the protocol may still change";
  document.getElementById("facts").textContent = `Test ${status.hash}, site ${status.site}, ${frozen}. Deleted on request: ${status.deleted}. ${status.notes.join(". ")}`;
  document.getElementById("listeners").replaceChildren(...status.listeners.map(row));
}

function row(person) {
  const button = make("button", { type: "button", "aria-label": `Delete listener ${person.id}` }, "Delete");
  let sure = false;
  button.addEventListener("click", async () => {
    if (!sure) {
      sure = true;
      button.textContent = "Really delete?";
      return;
    }
    const { deleted } = await json("DELETE", `/api/organiser/listeners/${person.id}`);
    const pending = "no longer count; erasing them from the disk is delayed by another program and is tried again";
    say(`Listener ${person.id} and all their answers ${deleted ? "are deleted" : pending}.`);
    await refresh();
  });
  const cells = [person.id, person.label, person.group || "", String(person.answered), stamp(person.finished_at)];
  return make("tr", {}, ...cells.map((text) => make("td", {}, text)), make("td", {}, button));
}

document.getElementById("links").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = { count: Number(document.getElementById("count").value), label: document.getElementById("label").value };
  const made = await json("POST", "/api/organiser/links", wanted);
  document.getElementById("made").replaceChildren(...made.map(({ token }) => make("li", {}, `${location.origin}/#${token}`)));
  say(`${made.length} links made.`);
  await refresh();
});

for (const button of document.querySelectorAll("[data-form]")) {
  button.addEventListener("click", async () => {
    const form = button.dataset.form;
    const blob = await (await ask("GET", `/api/organiser/votes?form=${form}`)).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: `votes.${form}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

window.addEventListener("unhandledrejection", (event) => say(event.reason.status === 401 ? "This organiser link is not valid." : `It failed: ${event.reason.reason || event.reason.message}`));
refresh();
