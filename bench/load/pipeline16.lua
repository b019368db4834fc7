dofile("load/report.lua")
local batch
function init(args)
  local one = {}
  for i = 1, 16 do one[i] = wrk.format(nil, "/") end
  batch = table.concat(one)
end
function request() return batch end
