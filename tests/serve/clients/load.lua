-- Alternates between requests of two depths.
local bodies = {
  '{"prompt": "The ball is under cup E. Swap AE", "max_tokens": 4, "steps": 4, "temperature": 0}',
  '{"prompt": "The dial is at the 3rd of 5. Turn 2 1", "max_tokens": 4, "steps": 16, "temperature": 0}',
}
local turn = 0
function request()
  turn = turn + 1
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, bodies[turn % 2 + 1])
end
