// Logit lens: the read-out of the state after every step.
function candidates(token) {
  const best = new Map();
  data.top[token].forEach((row, step) => row.forEach((id, place) => {
    const likely = data.likely[token][step][place];
    best.set(id, Math.max(best.get(id) || 0, likely + (place === 0 ? 1 : 0)));
  }));
  return [...best].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([id]) => id);
}

draws.push(() => {
  const { token, step } = picked;
  const left = 58;
  const { pen, width } = paper('lens', 236);
  const right = width - 96;
  const x = { low: 0, high: Math.max(data.steps, 1), ticks: whole(data.steps, 10), label: '' };
  const y = { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1], label: 'probability', write: (at) => `${at * 100} %` };
  const { across, up } = axes(pen, [left, 10, right, 206], x, y);
  const names = [];
  candidates(token).forEach((id, at) => {
    pen.strokeStyle = pen.fillStyle = data.series[at % data.series.length];
    pen.lineWidth = 2;
    pen.beginPath();
    let open = false;
    let last = null;
    data.top[token].forEach((row, step) => {
      const place = row.indexOf(id);
      if (place < 0) { open = false; return; }
      last = data.likely[token][step][place];
      const point = [across(step), up(last)];
      if (open) pen.lineTo(...point); else pen.moveTo(...point);
      open = true;
      pen.fillRect(point[0] - 1.5, point[1] - 1.5, 3, 3);
    });
    pen.stroke();
    const final = data.top[token][data.steps].indexOf(id);
    names.push({ id, y: up(final < 0 ? 0 : data.likely[token][data.steps][final]), fill: pen.fillStyle });
  });
  // Names at the ends of the lines, moved apart so that they do not overlap.
  names.sort((a, b) => a.y - b.y);
  for (let at = 1; at < names.length; at++) names[at].y = Math.max(names[at].y, names[at - 1].y + 15);
  let floor = 206;
  for (let at = names.length - 1; at >= 0; at--, floor -= 15) names[at].y = Math.min(names[at].y, floor);
  names.forEach(({ id, y, fill }) => {
    pen.fillStyle = fill;
    say(pen, word(id).slice(0, 12), right + 8, y, 'left', 'middle');
  });
  pen.strokeStyle = css('--accent');
  pen.lineWidth = 1;
  line(pen, across(step), 10, across(step), 206);

  const low = paper('entropy', 132);
  const entropies = data.entropies[token];
  const most = Math.max(0.01, ...entropies);
  const scale = axes(low.pen, [left, 10, right, 88], { ...x, label: 'recurrence step i' }, { low: 0, high: most * 1.05, ticks: ticks(0, most, 2), label: 'entropy, nats' });
  low.pen.strokeStyle = css('--pale');
  low.pen.lineWidth = 2;
  low.pen.beginPath();
  entropies.forEach((value, step) => (step ? low.pen.lineTo(scale.across(step), scale.up(value)) : low.pen.moveTo(scale.across(step), scale.up(value))));
  low.pen.stroke();
  low.pen.strokeStyle = css('--accent');
  low.pen.lineWidth = 1;
  line(low.pen, scale.across(step), 10, scale.across(step), 88);

  $('lens-of').textContent = `after ${name(token)}, if it exited after i steps`;
  $('top-of').textContent = `After step ${step}`;
  $('top').replaceChildren(...data.top[token][step].map((id, place) => {
    const likely = data.likely[token][step][place];
    const row = document.createElement('li');
    const [code, bar, share] = ['code', 'span', 'em'].map((tag) => document.createElement(tag));
    code.textContent = word(id);
    bar.style.width = `${likely * 100}%`;
    share.textContent = `${(likely * 100).toFixed(1)} %`;
    row.append(code, bar, share);
    return row;
  }));
});

['lens', 'entropy'].forEach((id) => {
  const at = (event) => {
    const wide = $(id).clientWidth;
    const step = Math.round(((event.offsetX - 58) / (wide - 96 - 58)) * data.steps);
    return step >= 0 && step <= data.steps ? step : null;
  };
  $(id).onmousemove = (event) => {
    const step = at(event);
    if (step === null) return tip();
    const { token } = picked;
    tip(event, `step ${step}, entropy ${figure(data.entropies[token][step])} nats
` + data.top[token][step].map((id, place) => `${word(id)}  ${(data.likely[token][step][place] * 100).toFixed(1)} %`).join('\n'));
  };
  $(id).onmouseleave = () => tip();
  $(id).onclick = (event) => {
    const step = at(event);
    if (step !== null) pick({ step });
  };
});
