// Calls to this server, with a key if it needs one. Session storage keeps the
// key for this tab.

const storageKey = "mlxrank-key";
let key = sessionStorage.getItem(storageKey) || "";
let asking = null;

const headers = (more) => (key === "" ? more : { ...more, Authorization: "Bearer " + key });

// call asks for the key until the server accepts it.
export async function call(path, options = {}) {
  for (;;) {
    const used = key;
    const response = await fetch(path, { ...options, cache: "no-store", headers: headers(options.headers || {}) });
    if (response.status !== 401) return response;
    await response.body?.cancel();
    if (key === used) await askKey(used !== "");
  }
}

function askKey(wrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const form = document.getElementById("key-form");
    const input = document.getElementById("key");
    document.getElementById("key-note").textContent = wrong ? "The server rejected that key. Try again." : "This tab alone keeps the key.";
    input.value = "";
    const stay = (event) => event.preventDefault(); // without the key there is nothing to show
    dialog.addEventListener("cancel", stay);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      key = input.value.trim();
      sessionStorage.setItem(storageKey, key);
      dialog.removeEventListener("cancel", stay);
      dialog.close();
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

const silence = 6000; // ms without an event after which the page reconnects
const pauses = [500, 1000, 2000, 4000]; // ms between attempts

// follow reads the server's events and never returns. handlers has a function per
// event name, and lost(reason) for a lost connection.
export async function follow(path, handlers) {
  for (let failed = 0; ; failed++) {
    try {
      await read(path, (name, data) => {
        failed = 0;
        handlers[name]?.(data);
      });
      handlers.lost("the server closed the connection");
    } catch (error) {
      handlers.lost(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, pauses[Math.min(failed, pauses.length - 1)]));
  }
}

async function read(path, receive) {
  const control = new AbortController();
  const response = await call(path, { signal: control.signal });
  if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).trim()}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const timer = setTimeout(() => control.abort(new Error("the server is silent")), silence);
    const { value, done } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      receive(fields.event, JSON.parse(fields.data));
    }
  }
}
