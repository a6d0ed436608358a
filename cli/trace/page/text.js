// The text, with each token colored by the selected measure.
choices('text-by', 'text', { used: 'steps used', settled: 'steps until the answer stays', entropy: 'entropy at the end' });

const measures = {
  used: { of: (token) => data.used[token], high: data.steps, unit: 'steps used' },
  settled: { of: (token) => data.settled[token], high: Math.max(1, ...data.settled), unit: 'steps after which the most likely next token no longer changes' },
  entropy: { of: (token) => data.entropies[token][data.steps], high: Math.max(0.01, ...data.entropies.map((row) => row[data.steps])), unit: 'entropy of the next token in nats' },
};

const chips = data.tokens.map((_, token) => {
  const chip = document.createElement('button');
  chip.className = token === data.prompt ? 'token first' : 'token';
  chip.append(name(token), document.createElement('i'));
  chip.onclick = () => pick({ token });
  chip.onmousemove = (event) => tip(event, `${name(token)}  position ${token}, ${token < data.prompt ? 'prompt' : 'generated'}
${data.used[token]} steps used
the next token stays ${word(data.top[token][data.steps][0])} from step ${data.settled[token]} on`);
  chip.onmouseleave = () => tip();
  $('text').append(chip);
  return chip;
});
if (data.last !== null) {
  const chip = document.createElement('span');
  chip.className = data.tokens.length === data.prompt ? 'token first last' : 'token last';
  chip.textContent = shown(data.last);
  chip.title = 'the last token: generated, but not fed back';
  $('text').append(chip);
}

draws.push(() => {
  const { of, high, unit } = measures[picked.text];
  chips.forEach((chip, token) => {
    const value = of(token);
    const fill = far(value / high);
    chip.style.background = fill;
    chip.style.color = inkOn(fill);
    chip.lastChild.textContent = Number.isInteger(value) ? value : value.toFixed(2);
    chip.classList.toggle('picked', token === picked.token);
  });
  const legend = $('text-legend');
  legend.replaceChildren('0', document.createElement('i'), `${figure(high)}   ${unit}; the gap is between prompt and answer`);
  legend.children[0].style.background = `linear-gradient(90deg, ${data.far.filter((_, at) => at % 8 === 0).join(', ')})`;
});
