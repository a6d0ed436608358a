// Chart, legend and table of a sweep.
Object.assign(picked, { measure: 'accuracy', hidden: new Set() });
choices('measure', 'measure', { accuracy: 'right answers', perplexity: 'perplexity of the right answer' });
$('about').textContent = data.about;

const ink = (line) => (line.color === null ? css('--ink') : data.series[line.color % data.series.length]);
const buttons = data.lines.map((line, at) => {
  const button = document.createElement('button');
  button.append(document.createElement('canvas'), line.name);
  button.onclick = () => {
    if (!picked.hidden.delete(at)) picked.hidden.add(at);
    pick({});
  };
  $('names').append(button);
  return button;
});

/// Exit rules differ in their dashes and in the shape of their points.
const DASHES = [[], [8, 5], [2, 4], [12, 4, 2, 4], [5, 2], [1, 6]];
const dashes = (line) => DASHES[line.rule % DASHES.length];
const SHAPES = [
  (pen, x, y) => pen.arc(x, y, 5, 0, 7),
  (pen, x, y) => polygon(pen, x, y, 3, -90, 6.5),
  (pen, x, y) => polygon(pen, x, y, 4, 45, 6),
  (pen, x, y) => polygon(pen, x, y, 4, 0, 6.5),
  (pen, x, y) => polygon(pen, x, y, 3, 90, 6.5),
];
function polygon(pen, x, y, corners, from, radius) {
  for (let at = 0; at < corners; at++) {
    const angle = ((from + (at * 360) / corners) * Math.PI) / 180;
    pen.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  pen.closePath();
}
function mark(pen, line, x, y) {
  pen.beginPath();
  SHAPES[line.rule % SHAPES.length](pen, x, y);
  pen.fillStyle = ink(line);
  pen.fill();
  pen.strokeStyle = css('--card');
  pen.lineWidth = 1.5;
  pen.stroke();
}
function curve(pen, line, places) {
  pen.strokeStyle = ink(line);
  pen.lineWidth = 2.5;
  pen.lineCap = 'butt';
  pen.setLineDash(dashes(line));
  pen.beginPath();
  places.forEach(([left, top], i) => (i ? pen.lineTo(left, top) : pen.moveTo(left, top)));
  pen.stroke();
  pen.setLineDash([]);
  pen.lineCap = 'round';
}
/// Draws a sample of a line in its button.
function sample(button, line) {
  const canvas = button.firstChild;
  const scale = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [46 * scale, 14 * scale];
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  curve(pen, line, [[0, 7], [46, 7]]);
  mark(pen, line, 23, 7);
}

let points = [];
draws.push(() => {
  const { pen, width, height } = paper('chart', 470);
  const accuracy = picked.measure === 'accuracy';
  const rows = data.lines.flatMap((line) => line.rows);
  const logs = rows.map((row) => Math.log2(row.mean_steps));
  const [low, high] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  const marks = Array.from({ length: high - low + 1 }, (_, at) => low + at);
  const x = { low: low - 0.15, high: high + 0.15, ticks: marks, write: (at) => figure(2 ** at), label: 'recurrence steps per token of the answer, on average' };
  const most = Math.log10(Math.max(10, ...rows.map((row) => Math.min(row.perplexity, 1e30))));
  const y = accuracy
    ? { low: -2, high: 102, ticks: [0, 20, 40, 60, 80, 100], write: (at) => `${at} %`, label: 'right answers', away: 48 }
    : { low: 0, high: most, ticks: ticks(0, most, 5).filter(Number.isInteger), write: power, label: 'perplexity', away: 48 };
  const { across, up } = axes(pen, [64, 12, width - 16, height - 56], x, y);
  points = [];
  data.lines.forEach((line, at) => {
    buttons[at].setAttribute('aria-pressed', !picked.hidden.has(at));
    sample(buttons[at], line);
    if (picked.hidden.has(at)) return;
    const places = line.rows.map((row) => [across(Math.log2(row.mean_steps)), up(accuracy ? row.accuracy * 100 : Math.log10(Math.min(row.perplexity, 1e30)))]);
    pen.strokeStyle = ink(line);
    if (accuracy) {
      pen.globalAlpha = 0.4;
      // Later bars are narrower, so that overlapping bars stay visible.
      pen.lineWidth = Math.max(2, 8 - at);
      line.rows.forEach((row, i) => {
        pen.beginPath();
        pen.moveTo(places[i][0], up(row.ci_low * 100));
        pen.lineTo(places[i][0], up(row.ci_high * 100));
        pen.stroke();
      });
      pen.globalAlpha = 1;
    }
    curve(pen, line, places);
    places.forEach(([left, top], i) => {
      mark(pen, line, left, top);
      points.push({ left, top, line, row: line.rows[i] });
    });
  });
});

$('chart').onmousemove = (event) => {
  const away = (point) => Math.hypot(point.left - event.offsetX, point.top - event.offsetY);
  const near = points.filter((point) => away(point) < 14).sort((a, b) => away(a) - away(b))[0];
  if (!near) return tip();
  const { line, row } = near;
  tip(event, `${line.name}, ${line.rule || row.exit !== 'none' ? 'at most ' : ''}${row.steps} ${row.steps === 1 ? 'step' : 'steps'}
${(row.accuracy * 100).toFixed(1)} % of ${row.n} right, 95 %: ${(row.ci_low * 100).toFixed(1)} to ${(row.ci_high * 100).toFixed(1)}
${figure(row.mean_steps)} steps on average
perplexity ${figure(row.perplexity)}
${figure(row.tokens_per_s)} tokens/s`);
};
$('chart').onmouseleave = () => tip();

function tableRow(kind, cells) {
  const row = document.createElement('tr');
  for (const text of cells) {
    const cell = document.createElement(kind);
    cell.textContent = text;
    row.append(cell);
  }
  $('rows').append(row);
}
tableRow('th', ['task', 'exit', 'steps', 'n', 'right', '95 % interval', 'mean steps', 'perplexity', 'tokens/s']);
for (const row of data.lines.flatMap((line) => line.rows)) {
  const percent = (part) => (part * 100).toFixed(1);
  tableRow('td', [row.task, row.exit, row.steps, row.n, `${percent(row.accuracy)} %`, `${percent(row.ci_low)} to ${percent(row.ci_high)}`, figure(row.mean_steps), figure(row.perplexity), figure(row.tokens_per_s)]);
}
addEventListener('resize', () => pick({}));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => pick({}));
pick({});
document.documentElement.dataset.drawn = draws.length;
