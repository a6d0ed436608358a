// Shared script of all pages: data, selection, canvases at the screen's resolution, axes, tooltips.
'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const picked = {};
const draws = [];
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '12px Inter, system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif';

function pick(change) {
  Object.assign(picked, change);
  for (const draw of draws) draw();
}

/// A power of ten.
const power = (at) => '10' + String(at).replace(/[-0-9]/g, (c) => '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'['-0123456789'.indexOf(c)]);
function figure(value) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 0.001 || size >= 100000) return value.toExponential(1).replace('e+', 'e');
  return String(Number(value.toPrecision(3)));
}

/// Resizes a canvas to its container's width and to `height`; returns its drawing context and size.
function paper(id, height) {
  const canvas = $(id);
  const width = canvas.clientWidth;
  const scale = window.devicePixelRatio || 1;
  canvas.style.height = height + 'px';
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  pen.font = FONT;
  pen.lineJoin = pen.lineCap = 'round';
  return { pen, width, height };
}

/// Round numbers between two bounds.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const all = [];
  for (let at = Math.ceil(low / size); at * size <= high + size * 1e-6; at++) all.push(at * size);
  return all;
}
/// Whole numbers.
const whole = (high, count) => ticks(0, Math.max(high, 1), count).filter((at) => Number.isInteger(at));

/// Draws the axes of a box [left, top, right, bottom]; `x` and `y` have bounds, ticks and a label. Returns the scales.
function axes(pen, [left, top, right, bottom], x, y) {
  const across = (at) => left + ((at - x.low) / (x.high - x.low || 1)) * (right - left);
  const up = (at) => bottom - ((at - y.low) / (y.high - y.low || 1)) * (bottom - top);
  pen.lineWidth = 1;
  pen.strokeStyle = css('--grid');
  pen.fillStyle = css('--pale');
  for (const at of x.ticks) {
    line(pen, across(at), top, across(at), bottom);
    say(pen, x.write ? x.write(at) : figure(at), across(at), bottom + 6, 'center', 'top');
  }
  for (const at of y.ticks) {
    line(pen, left, up(at), right, up(at));
    say(pen, y.write ? y.write(at) : figure(at), left - 6, up(at), 'right', 'middle');
  }
  pen.fillStyle = css('--ink');
  // The label is wrapped on a narrow canvas, and shifted where it would be cut off.
  const room = pen.canvas.clientWidth - 8;
  lines(pen, x.label, room).forEach((text, at) => {
    const half = pen.measureText(text).width / 2;
    const middle = Math.max(half + 4, Math.min(room + 4 - half, (left + right) / 2));
    say(pen, text, middle, bottom + 23 + 15 * at, 'center', 'top');
  });
  pen.save();
  pen.translate(left - (y.away || 44), (top + bottom) / 2);
  pen.rotate(-Math.PI / 2);
  say(pen, y.label, 0, 0, 'center', 'middle');
  pen.restore();
  return { across, up };
}

/// Breaks a text at spaces into lines of at most `width` pixels.
function lines(pen, text, width) {
  const all = [];
  for (const word of text.split(' ')) {
    const longer = all.length ? `${all[all.length - 1]} ${word}` : word;
    if (all.length && pen.measureText(longer).width <= width) all[all.length - 1] = longer;
    else all.push(word);
  }
  return all;
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function say(pen, text, x, y, align, base) {
  pen.textAlign = align;
  pen.textBaseline = base;
  pen.fillText(text, x, y);
}

function dot(pen, x, y, radius, fill, edge) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fillStyle = fill;
  pen.fill();
  if (edge) {
    pen.strokeStyle = edge;
    pen.lineWidth = 1.5;
    pen.stroke();
  }
}

function tip(event, text) {
  const box = $('tip');
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const { offsetWidth: width, offsetHeight: height } = box;
  box.style.left = Math.min(event.clientX + 14, innerWidth - width - 8) + 'px';
  box.style.top = (event.clientY + height + 24 > innerHeight ? event.clientY - height - 12 : event.clientY + 16) + 'px';
}

/// Adds a group of buttons, one of which is pressed.
function choices(id, key, names) {
  const buttons = Object.entries(names).map(([value, text]) => {
    const button = document.createElement('button');
    button.textContent = text;
    button.onclick = () => pick({ [key]: value });
    $(id).append(button);
    return [value, button];
  });
  draws.push(() => buttons.forEach(([value, button]) => button.setAttribute('aria-pressed', picked[key] === value)));
}
