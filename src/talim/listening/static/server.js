// How the page talks to the server. The link's secret stays behind the # of the address: it is in no log.
export const token = () => decodeURIComponent(location.hash.slice(1));

export class Refusal extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
    this.reason = reason;
  }
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function once(method, path, body) {
  const headers = { Authorization: `Bearer ${token()}` };
  const bytes = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = bytes ? "application/octet-stream" : "application/json";
  const answer = await fetch(path, { method, headers, body: bytes ? body : body && JSON.stringify(body), cache: "no-store" });
  if (answer.ok) return answer;
  const refusal = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, refusal.reason || String(answer.status));
}

// Asks until there is an answer: a server that is away, restarting or busy is asked again, ever more slowly.
export async function ask(method, path, body, waiting = () => {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(method, path, body);
    } catch (error) {
      const passing = !(error instanceof Refusal) || error.status === 429 || error.status >= 500;
      if (!passing) throw error;
      waiting();
      await pause(Math.min(10000, 400 * 2 ** attempt));
    }
  }
}

// A name for a vote, made here: sent twice, it is still one vote. (crypto.randomUUID needs https.)
export function voteId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
