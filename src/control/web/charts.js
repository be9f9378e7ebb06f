// The two charts. They are given what to draw, and know of nothing else.
"use strict";

const WINDOW_S = 300;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function mirrorColour(at) {
  return `--m${at % 8}`;
}

// A canvas as sharp as the screen, cleared; null while it is not shown.
function surface(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width || !height) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  return { pen, width, height, left: 64, right: width - 4, top: 8, bottom: height - 18 };
}

function timeAxis({ pen, left, right, height }) {
  pen.fillStyle = colour("--soft");
  pen.textAlign = "left";
  pen.fillText("5 min ago", left, height - 4);
  pen.textAlign = "right";
  pen.fillText("now", right, height - 4);
}

// A round number of bytes a second that is not below this.
function roundUp(rate) {
  let unit = 1024;
  while (unit * 1024 <= rate) unit *= 1024;
  const times = rate / unit;
  for (const step of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]) if (times <= step) return step * unit;
  return rate;
}

// samples: { at, seconds, read, fetched: { url: bytes per second } }, oldest first; at: seconds.
function drawRates(canvas, samples, urls, now, rateText) {
  const on = surface(canvas);
  if (!on) return;
  const { pen, left, right, top, bottom } = on;
  const sum = (sample) => urls.reduce((all, url) => all + (sample.fetched[url] || 0), 0);
  const most = roundUp(Math.max(1024, ...samples.map((sample) => Math.max(sum(sample), sample.read))));
  const x = (at) => Math.max(left, right - ((now - at) / WINDOW_S) * (right - left));
  const y = (rate) => bottom - (rate / most) * (bottom - top);
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  for (const part of [0, 0.5, 1]) {
    const line = Math.round(y(part * most)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, line);
    pen.lineTo(right, line);
    pen.stroke();
    pen.fillText(rateText(part * most), left - 6, line + 4);
  }
  for (const sample of samples) {
    const [from, to] = [x(sample.at - sample.seconds), x(sample.at)];
    let below = 0;
    urls.forEach((url, at) => {
      const rate = sample.fetched[url] || 0;
      if (!rate) return;
      pen.fillStyle = colour(mirrorColour(at));
      pen.fillRect(from, y(below + rate), Math.max(1, to - from), y(below) - y(below + rate));
      below += rate;
    });
  }
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 1.5;
  pen.beginPath();
  samples.forEach((sample, at) => {
    const [from, to] = [x(sample.at - sample.seconds), x(sample.at)];
    if (at === 0) pen.moveTo(from, y(sample.read));
    pen.lineTo(from, y(sample.read));
    pen.lineTo(to, y(sample.read));
  });
  pen.stroke();
  timeAxis(on);
}

// samples: { at, seconds, counts: [how many took less than 1 ms, 2 ms, 4 ms, …] }.
function drawHeat(canvas, samples, now) {
  const on = surface(canvas);
  if (!on) return;
  const { pen, left, right, top, bottom } = on;
  const buckets = 16;
  const tall = (bottom - top) / buckets;
  const x = (at) => Math.max(left, right - ((now - at) / WINDOW_S) * (right - left));
  const most = Math.max(1, ...samples.flatMap((sample) => sample.counts.map((count) => count / sample.seconds)));
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  for (const [bucket, text] of [[0, "1 ms"], [4, "16 ms"], [7, "128 ms"], [10, "1 s"], [13, "8 s"]]) {
    pen.fillText(text, left - 6, bottom - (bucket + 1) * tall + 4);
  }
  pen.strokeStyle = colour("--line");
  pen.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
  const heat = colour("--heat");
  for (const sample of samples) {
    const [from, to] = [x(sample.at - sample.seconds), x(sample.at)];
    sample.counts.forEach((count, bucket) => {
      if (!count) return;
      // One of many is to be seen as well.
      const part = 0.25 + 0.75 * (Math.log1p(count / sample.seconds) / Math.log1p(most));
      pen.fillStyle = `rgba(${heat}, ${part})`;
      pen.fillRect(from, bottom - (bucket + 1) * tall, Math.max(2, to - from), tall - 1);
    });
  }
  timeAxis(on);
}
