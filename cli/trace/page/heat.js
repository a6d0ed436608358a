// Heat map: a row per token, a column per step.
choices('heat-by', 'heat', { distance: 'distance to the final state', entropy: 'entropy of the read-out' });

const logs = data.distances.map((row) => row.map((d) => (d > 0 ? Math.log10(d) : -Infinity)));
const finite = logs.flat().filter(Number.isFinite);
const heats = {
  distance: {
    cells: logs.map((row) => row.slice(0, Math.max(data.steps, 1))),
    low: finite.length ? finite.reduce((a, b) => Math.min(a, b)) : -1,
    high: finite.length ? finite.reduce((a, b) => Math.max(a, b)) : 0,
    marks: (low, high) => ticks(low, high, 6).filter(Number.isInteger),
    write: power,
    label: 'distance ‖sᵢ − s*‖ of the state after i steps from the final state',
  },
  entropy: {
    cells: data.entropies,
    low: 0,
    high: data.entropies.flat().reduce((a, b) => Math.max(a, b), 0.01),
    marks: (low, high) => ticks(low, high, 6),
    write: figure,
    label: 'entropy of the token that would be read out, in nats',
  },
};
let heatPlace = null;

draws.push(() => {
  const heat = heats[picked.heat];
  const rows = heat.cells.length;
  const columns = heat.cells[0].length;
  const tall = Math.max(5, Math.min(20, 6000 / rows));
  const [top, left] = [8, 92];
  const { pen, width } = paper('heat', top + rows * tall + 46);
  const right = width - 12;
  const wide = (right - left) / columns;
  const bottom = top + rows * tall;
  heat.cells.forEach((row, token) => row.forEach((value, step) => {
    pen.fillStyle = far((value - heat.low) / (heat.high - heat.low || 1));
    pen.fillRect(left + step * wide, top + token * tall, wide + 0.6, tall + 0.6);
  }));
  pen.fillStyle = css('--card');
  if (data.prompt < rows) pen.fillRect(left, top + data.prompt * tall - 1, right - left, 2);
  const every = Math.ceil(13 / tall);
  for (let token = 0; token < rows; token++) {
    if (token % every && token !== picked.token) continue;
    pen.fillStyle = token === picked.token ? css('--accent') : css('--pale');
    say(pen, name(token).slice(0, 12), left - 8, top + (token + 0.5) * tall, 'right', 'middle');
  }
  for (const step of whole(columns - 1, 12)) {
    pen.fillStyle = css('--pale');
    say(pen, step, left + (step + 0.5) * wide, bottom + 6, 'center', 'top');
  }
  pen.fillStyle = css('--ink');
  say(pen, 'recurrence step i', (left + right) / 2, bottom + 24, 'center', 'top');
  // Marks the step at which each token exited.
  for (const [fill, thick] of [['#15171c', 6], ['#ffffff', 3]]) {
    pen.fillStyle = fill;
    data.used.forEach((used, token) => {
      if (used < columns) pen.fillRect(left + (used + 0.5) * wide - thick / 2, top + token * tall, thick, tall);
    });
  }
  pen.strokeStyle = css('--accent');
  pen.lineWidth = 2;
  pen.strokeRect(left, top + picked.token * tall, right - left, tall);
  if (picked.step < columns) pen.strokeRect(left + picked.step * wide, top, wide, rows * tall);
  heatPlace = { left, top, wide, tall, rows, columns };
  const stops = data.used.some((used) => used < columns) ? '; white marks: where the token stopped' : '';
  scaleBar('heat-legend', data.far, heat.low, heat.high, heat.marks(heat.low, heat.high), heat.write, heat.label + stops);
});

function heatCell(event) {
  const { left, top, wide, tall, rows, columns } = heatPlace;
  const step = Math.floor((event.offsetX - left) / wide);
  const token = Math.floor((event.offsetY - top) / tall);
  return step >= 0 && step < columns && token >= 0 && token < rows ? { token, step } : null;
}
$('heat').onmousemove = (event) => {
  const cell = heatCell(event);
  if (!cell) return tip();
  const { token, step } = cell;
  tip(event, `${name(token)}  position ${token}, step ${step}
distance ${figure(data.distances[token][step])}
entropy ${figure(data.entropies[token][step])} nats
would say ${word(data.top[token][step][0])}, ${(data.likely[token][step][0] * 100).toFixed(1)} %`);
};
$('heat').onmouseleave = () => tip();
$('heat').onclick = (event) => {
  const cell = heatCell(event);
  if (cell) pick(cell);
};
