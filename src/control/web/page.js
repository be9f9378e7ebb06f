// What the mount says, once a second while somebody looks, and the commands of the buttons. Names come from strangers'
// servers: they are put into the page as text, never as markup.
"use strict";

const PERIOD_MS = 1000;
const DECISIONS_PERIOD = 3;
const DECISIONS_SHOWN = 12;
const TOKEN_KEY = "braidfs-token";

const find = (id) => document.getElementById(id);
const seen = { before: null, rates: [], urls: [], status: null, mirrors: null, round: 0, asking: false, timer: 0 };

function takeToken() {
  const given = /^#token=([0-9a-f]+)$/.exec(location.hash);
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given[1]);
    // Out of sight, and out of what is copied from the address bar.
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY);
}
let token = takeToken();

class Refused extends Error {}

// Give one command; the lines that come back.
async function command(name, args) {
  const answer = await fetch("command", {
    method: "POST",
    headers: { "content-type": "application/json", "braidfs-token": token || "" },
    body: JSON.stringify({ v: 1, command: name, args }),
    cache: "no-store",
  });
  const text = await answer.text();
  if (!(answer.headers.get("content-type") || "").includes("ndjson")) {
    if (answer.status === 401) token = null;
    throw new Refused(text.trim());
  }
  const lines = text.split("\n").filter((line) => line).map((line) => JSON.parse(line));
  const last = lines.pop();
  if (last.error) throw new Refused(last.error.message);
  return { result: last.result, lines };
}

// --- words ---

// A number and its unit stay on one line.
function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (bytes >= 1024 && at < units.length - 1) {
    bytes /= 1024;
    at += 1;
  }
  return `${at && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)}\u00a0${units[at]}`;
}
const rateText = (rate) => `${bytesText(rate)}/s`;
const partText = (part) => (part === null || part === undefined ? "–" : `${(part * 100).toFixed(1)}\u00a0%`);
const millisText = (ms) => (ms === null || ms === undefined ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms`);
function lengthText(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}
const STATES = {
  closed: ["in use", "good"],
  "half-open": ["being tried", "warn"],
  open: ["down, left alone", "bad"],
  online: ["online", "good"],
  offline: ["offline", "bad"],
  "reading-through": ["reading through: no disk", "warn"],
};
const stateOf = (state) => STATES[state] || [state, ""];
const pathText = (path) => path || ". (all)";

// --- parts of the page ---

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  return element;
}

// What is there stays, so that a focus or a selection does.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A row for each, known by its key; `labels` are the heads of its columns.
function rows(body, items, labels, key, fill) {
  const old = new Map(Array.from(body.children, (row) => [row.dataset.key, row]));
  items.forEach((item, at) => {
    const name = String(key(item));
    let row = old.get(name);
    if (!row) {
      row = make("tr", undefined, { role: "row" });
      row.dataset.key = name;
      for (const label of labels) row.append(make("td", undefined, { role: "cell", "data-label": label }));
    }
    old.delete(name);
    fill(item, Array.from(row.children), row);
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] || null);
  });
  old.forEach((row) => row.remove());
}

// A text with a smaller one below it.
function two(cell, text, small, kind) {
  if (!cell.firstChild) cell.append(make("span"), make("small"));
  const [above, below] = cell.children;
  setText(above, text);
  setText(below, small || "");
  above.className = kind || "";
  below.hidden = !small;
}

function button(text, label, act) {
  const element = make("button", text, { type: "button", "aria-label": label });
  element.addEventListener("click", async () => {
    element.disabled = true;
    await act();
    element.disabled = false;
  });
  return element;
}

// --- commands ---

function say(text, kind) {
  const said = find("said");
  setText(said, text);
  said.className = kind || "";
}

const DONE = {
  prefetch: ({ prefetch }) => `job ${prefetch.job} fetches it`,
  pin: ({ pinned }) => `pinned: ${pinned.files} files, ${bytesText(pinned.bytes)}`,
  unpin: () => "unpinned",
  evict: ({ evicted }) =>
    `evicted: ${bytesText(evicted.disk_bytes)} on disk, ${bytesText(evicted.memory_bytes)} in memory` +
    (evicted.failed ? `; ${evicted.failed} not` : ""),
};

async function order(name, path) {
  if (name === "evict" && path === "" && !confirm("Drop all that is cached of this mount?")) return;
  say(`${name} ${pathText(path)} …`);
  try {
    const args = name === "prefetch" ? { paths: [path], wait: false } : { paths: [path] };
    const { result, lines } = await command(name, args);
    const failed = lines.filter((line) => line.failed).map(({ failed }) => `; ${failed.path}: ${failed.reason}`);
    say(`${pathText(path)}: ${DONE[name](result)}${failed.slice(0, 3).join("")}`, failed.length ? "bad" : "good");
  } catch (error) {
    say(`${name}: ${error.message}`, "bad");
  }
  ask();
}

async function cancel(job) {
  try {
    const { result } = await command("cancel", { job });
    say(`job ${job} cancelled; ${bytesText(result.cancelled.progress.bytes_done)} of it stay in the cache`, "good");
  } catch (error) {
    say(`cancel: ${error.message}`, "bad");
  }
  ask();
}

// As the daemon writes names: `%` and control characters as %XX.
function encoded(typed) {
  const path = typed.replace(/^\/+|\/+$/g, "");
  if (path === "." || path === "") return "";
  const hex = (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return path.replace(/[%\u0000-\u001f\u007f]/g, hex);
}

find("order").addEventListener("submit", (event) => {
  event.preventDefault();
  order(event.submitter ? event.submitter.value : "prefetch", encoded(find("path").value));
});

// --- what is shown ---

// What came between this look and the last one.
function learn(status, mirrors) {
  const before = seen.before;
  const at = status.uptime_s;
  seen.before = { at, read: status.bytes_read, mirrors: new Map(mirrors.mirrors.map((one) => [one.url, one])) };
  seen.status = status;
  seen.mirrors = mirrors;
  // A mirror keeps its colour, also while it is not there.
  for (const { url } of mirrors.mirrors) if (!seen.urls.includes(url)) seen.urls.push(url);
  if (!before || at <= before.at) return;
  const seconds = at - before.at;
  const sample = { at, seconds, read: Math.max(0, status.bytes_read - before.read) / seconds, fetched: {}, counts: {} };
  for (const one of mirrors.mirrors) {
    const old = before.mirrors.get(one.url);
    if (!old) continue;
    const more = (now, then) => Math.max(0, now - (then || 0));
    sample.fetched[one.url] = more(one.bytes_fetched, old.bytes_fetched) / seconds;
    const counts = one.time_to_first_byte_counts || [];
    sample.counts[one.url] = counts.map((count, bucket) => more(count, (old.time_to_first_byte_counts || [])[bucket]));
  }
  seen.rates.push(sample);
  // Some looks come a little early.
  while (seen.rates.length && seen.rates[0].at < at - WINDOW_S) seen.rates.shift();
  if (seen.rates.length > 2 * WINDOW_S) seen.rates.shift();
}

function showTotals(status, mirrors) {
  setText(find("name"), status.name);
  setText(find("mountpoint"), `${status.mountpoint}, for ${lengthText(status.uptime_s)}`);
  const [text, kind] = stateOf(status.state);
  setText(find("state"), text);
  find("state").className = `state ${kind}`;
  document.title = `${status.name} – braidfs`;
  const last = seen.rates[seen.rates.length - 1];
  const fetched = last ? Object.values(last.fetched).reduce((sum, rate) => sum + rate, 0) : 0;
  const totals = [
    ["Read now", rateText(last ? last.read : 0)],
    ["Fetched now", rateText(fetched)],
    ["Read", bytesText(status.bytes_read)],
    ["Fetched", bytesText(status.bytes_fetched)],
    ["Hits", partText(status.hit_ratio)],
    ["Memory", `${bytesText(status.memory_bytes)} of ${bytesText(status.memory_limit)}`],
    ["Disk", status.disk_limit ? `${bytesText(status.disk_bytes)} of ${bytesText(status.disk_limit)}` : "none"],
    ["Late reads, P99", millisText(mirrors.demand_p99_ms)],
  ];
  const list = find("totals");
  if (!list.firstChild) {
    totals.forEach(([name]) => {
      const box = make("div");
      box.append(make("dt", name), make("dd"));
      list.append(box);
    });
  }
  totals.forEach(([, value], at) => setText(list.children[at].lastChild, value));
}

function showRates() {
  const now = seen.before.at;
  drawRates(find("rate"), seen.rates, seen.urls, now, rateText);
  const sum = (url) => seen.rates.reduce((all, sample) => all + (sample.fetched[url] || 0) * sample.seconds, 0);
  const each = seen.urls.map(sum);
  const all = each.reduce((one, other) => one + other, 0);
  const read = seen.rates.reduce((sum, sample) => sum + sample.read * sample.seconds, 0);
  setText(find("rate-text"), `In the last five minutes ${bytesText(all)} came from mirrors (areas), and ${bytesText(read)} were read (line).`);
  const legend = find("legend");
  seen.urls.forEach((url, at) => {
    let item = legend.children[at];
    if (!item) {
      item = make("li");
      item.append(make("i"), make("span"));
      legend.append(item);
      item.firstChild.style.background = `var(${mirrorColour(at)})`;
    }
    setText(item.lastChild, `${url} ${partText(all ? each[at] / all : null)}`);
  });
}

function showHeat() {
  const select = find("heat-mirror");
  seen.urls.slice(select.options.length - 1).forEach((url) => select.append(make("option", url, { value: url })));
  const urls = select.value ? [select.value] : seen.urls;
  const samples = seen.rates.map(({ at, seconds, counts }) => {
    const all = new Array(16).fill(0);
    urls.forEach((url) => (counts[url] || []).forEach((count, bucket) => (all[bucket] += count)));
    return { at, seconds, counts: all };
  });
  drawHeat(find("heat"), samples, seen.before.at);
  const total = new Array(16).fill(0);
  samples.forEach(({ counts }) => counts.forEach((count, bucket) => (total[bucket] += count)));
  const sum = total.reduce((one, other) => one + other, 0);
  const most = total.indexOf(Math.max(...total));
  const range = most === 0 ? "below 1 ms" : `${2 ** (most - 1)} ms to ${2 ** most} ms`;
  setText(find("heat-text"), sum ? `${sum} answers in the last five minutes, most of them after ${range}. The stronger the colour, the more.` : "No answer in the last five minutes.");
}

function showMirrors(mirrors) {
  const last = seen.rates[seen.rates.length - 1];
  const labels = ["Mirror", "State", "Rate", "Fetched", "Share", "First byte", "In flight", "Failures"];
  rows(find("mirrors"), mirrors.mirrors, labels, (one) => one.url, (one, cells, row) => {
    const [text, kind] = stateOf(one.state);
    const out = mirrors.taken_out.includes(one.url) ? "taken out by hand" : "";
    const next = one.next_try_s ? `; next try in ${lengthText(one.next_try_s)}` : "";
    row.dataset.state = one.state;
    row.dataset.fetched = one.bytes_fetched;
    setText(cells[0], one.url);
    two(cells[1], text, out || (one.reason ? `${one.reason}${next}` : ""), kind);
    setText(cells[2], rateText((last && last.fetched[one.url]) || 0));
    setText(cells[3], bytesText(one.bytes_fetched));
    setText(cells[4], partText(one.bytes_share));
    setText(cells[5], `${millisText(one.time_to_first_byte_p50_ms)} / ${millisText(one.time_to_first_byte_p99_ms)}`);
    setText(cells[6], `${bytesText(one.in_flight_bytes)} in ${one.in_flight_fetches}`);
    two(cells[7], String(one.failures), one.last_failure || "");
  });
}

const CELLS = { "#": "disk", m: "memory", ":": "part", ">": "coming" };

function showMap(cell, file) {
  if (!cell.firstChild) cell.append(make("div", undefined, { class: "map", role: "img" }));
  const map = cell.firstChild;
  const letters = Array.from(file.map);
  while (map.children.length < letters.length) map.append(make("i"));
  while (map.children.length > letters.length) map.lastChild.remove();
  letters.forEach((letter, at) => (map.children[at].className = CELLS[letter] || ""));
  const here = letters.filter((letter) => letter === "#" || letter === "m").length;
  map.setAttribute("aria-label", `${here} of ${letters.length} parts are here`);
}

function showFiles(status) {
  const labels = ["File", "Size", "Read", "What is here", "Do"];
  rows(find("files"), status.files, labels, (file) => file.path, (file, cells) => {
    setText(cells[0], file.path);
    setText(cells[1], bytesText(file.size));
    two(cells[2], bytesText(file.bytes_read), `${bytesText(file.on_disk_bytes)} on disk`);
    showMap(cells[3], file);
    if (!cells[4].firstChild) {
      const buttons = make("span", undefined, { class: "buttons" });
      for (const [name, text] of [["prefetch", "Prefetch"], ["pin", "Pin"], ["evict", "Evict"]]) {
        buttons.append(button(text, `${text} ${file.path}`, () => order(name, file.path)));
      }
      cells[4].append(buttons);
    }
  });
  find("no-files").hidden = status.files.length > 0;
}

function showJobs(status) {
  const labels = ["Job", "State", "Paths", "Progress", "Failed", "Do"];
  const jobs = [...status.jobs].sort((one, other) => other.job - one.job);
  rows(find("jobs"), jobs, labels, (job) => job.job, (job, cells, row) => {
    const { progress } = job;
    const shown = job.paths.slice(0, 3).map(pathText).join(" ");
    const more = job.paths_total > 3 ? ` and ${job.paths_total - 3} more` : "";
    const orMore = progress.listing && job.state === "running" ? " or more" : "";
    row.dataset.state = job.state;
    setText(cells[0], String(job.job));
    two(cells[1], job.state, progress.waits_until ? `waits until ${progress.waits_until}` : "", job.state === "failed" ? "bad" : "");
    setText(cells[2], shown + more);
    two(cells[3], `${bytesText(progress.bytes_done)} of ${bytesText(progress.bytes_total)}${orMore}`, `${progress.files_done} of ${progress.files_total} files`);
    two(cells[4], String(progress.files_failed), job.failures.slice(0, 3).map(({ path, reason }) => `${path}: ${reason}`).join("; "));
    if (job.state !== "running") cells[5].replaceChildren();
    else if (!cells[5].firstChild) cells[5].append(button("Cancel", `Cancel job ${job.job}`, () => cancel(job.job)));
  });
  find("no-jobs").hidden = jobs.length > 0;
  const pins = status.pins.slice(0, 20).map(({ path, bytes }) => `${pathText(path)} (${bytesText(bytes)})`);
  const left = status.pins.length > pins.length ? ` and ${status.pins.length - pins.length} more` : "";
  setText(find("pins"), pins.length ? `Pinned: ${pins.join(", ")}${left}.` : "Nothing is pinned.");
}

function decision(one) {
  const details = make("details");
  const winner = one.mirrors[0];
  const what = one.path === null ? "a file that is gone" : one.path;
  const cause = one.cause === "hedge" ? ", a second request" : "";
  details.append(make("summary", `${winner ? winner.url : "no mirror"} for ${what}, ${bytesText(one.bytes)} at ${bytesText(one.offset_bytes)} (${one.class}${cause})`));
  one.mirrors.forEach((mirror, place) => {
    const terms = Object.entries(mirror.terms).filter(([, value]) => Math.abs(value) >= 0.005);
    const sum = terms.map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" + ") || "0";
    details.append(make("p", `${place + 1}. ${mirror.url}: ${mirror.score.toFixed(2)} ${one.unit} = ${sum}; ${rateText(mirror.throughput_bytes_per_second)}, ${mirror.in_flight_fetches} in flight`));
  });
  details.append(make("p", `decision ${one.number}, ${new Date(one.at_unix_ms).toLocaleTimeString()}, ${one.strategy}, mirrors that could be asked: ${one.considered}`));
  return details;
}

async function showDecisions() {
  const list = find("decisions");
  if (list.querySelector("details[open]") || list.contains(document.activeElement)) return;
  const { lines } = await command("explain", { target: null, last: DECISIONS_SHOWN });
  const made = lines.filter((line) => line.decision).map((line) => decision(line.decision));
  list.replaceChildren(...(made.length ? made : [make("p", "No decision since the mount.", { class: "note" })]));
}

function draw() {
  if (!seen.before) return;
  showTotals(seen.status, seen.mirrors);
  showRates();
  showHeat();
  showMirrors(seen.mirrors);
  showFiles(seen.status);
  showJobs(seen.status);
}

// --- asking ---

function trouble(text) {
  const notice = find("notice");
  setText(notice, text || "");
  notice.hidden = !text;
}

const NO_TOKEN = "This page needs the token of the mount. `braidfs web MOUNTPOINT` prints an address that has it; open that one.";

async function ask() {
  if (seen.asking) return;
  clearTimeout(seen.timer);
  if (document.hidden) return;
  if (!token) return trouble(NO_TOKEN);
  seen.asking = true;
  try {
    const [status, mirrors] = await Promise.all([command("status", { path: null }), command("mirrors", { strategy: null })]);
    find("main").hidden = false;
    learn(status.result.status, mirrors.result.mirrors);
    draw();
    if (seen.round % DECISIONS_PERIOD === 0) await showDecisions();
    seen.round += 1;
    trouble("");
  } catch (error) {
    trouble(token ? `The mount does not answer: ${error.message}` : NO_TOKEN);
  }
  seen.asking = false;
  seen.timer = setTimeout(ask, PERIOD_MS);
}

document.addEventListener("visibilitychange", ask);
window.addEventListener("hashchange", () => {
  token = takeToken();
  ask();
});
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
find("heat-mirror").addEventListener("change", draw);
ask();
